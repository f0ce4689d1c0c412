//! Room to build what is sent. A session needs it for a moment only, so all of a thread use the same.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use bytes::BytesMut;

/// What has grown beyond this is not kept.
const KEPT_MAX: usize = 16 * 1024;

thread_local! {
    static KEPT: RefCell<BytesMut> = RefCell::default();
}

/// A buffer that is empty at first, and goes back when dropped. Who has to wait with it leaves the others to get one of their own.
#[derive(Debug)]
pub(super) struct Scratch(BytesMut);

impl Scratch {
    pub(super) fn take() -> Scratch {
        Scratch(KEPT.try_with(RefCell::take).unwrap_or_default())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.0.capacity() <= KEPT_MAX {
            self.0.clear();
            // a thread that ends keeps nothing
            let _ = KEPT.try_with(|kept| kept.replace(std::mem::take(&mut self.0)));
        }
    }
}

impl Deref for Scratch {
    type Target = BytesMut;

    fn deref(&self) -> &BytesMut {
        &self.0
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut BytesMut {
        &mut self.0
    }
}
