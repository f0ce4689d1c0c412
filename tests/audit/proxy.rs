//! A network between the tool and a server's socket, which can be cut.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

pub(crate) struct Proxy {
    pub(crate) port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// What is sent is lost, and nobody is told.
    swallows: AtomicBool,
    /// New connections are closed.
    is_cut: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    pub(crate) fn start(socket: PathBuf) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state: Arc<State> = Arc::default();
        let shared = state.clone();
        // ends with the test's process
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = UnixStream::connect(&socket);
                let (false, Ok(server)) = (shared.is_cut.load(Ordering::SeqCst), server) else {
                    continue;
                };
                shared.open.lock().unwrap().push(client.try_clone().unwrap());
                let (from_client, to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let (there, back) = (shared.clone(), shared.clone());
                let (client_end, server_end) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || {
                    copy(from_client, to_server, &there);
                    let _ = server_end.shutdown(Shutdown::Both);
                });
                thread::spawn(move || {
                    copy(server, client, &back);
                    let _ = client_end.shutdown(Shutdown::Both);
                });
            }
        });
        Proxy { port, state }
    }

    /// From now on all that is sent is lost.
    pub(crate) fn swallow(&self) {
        self.state.swallows.store(true, Ordering::SeqCst);
    }

    /// Closes all connections, and those that come.
    pub(crate) fn cut(&self) {
        self.state.is_cut.store(true, Ordering::SeqCst);
        for stream in self.state.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn restore(&self) {
        self.cut();
        self.state.swallows.store(false, Ordering::SeqCst);
        self.state.is_cut.store(false, Ordering::SeqCst);
    }
}

fn copy(mut from: impl Read, mut to: impl Write, state: &State) {
    let mut bytes = [0; 8192];
    while let Ok(n) = from.read(&mut bytes) {
        if n == 0 {
            return;
        }
        if !state.swallows.load(Ordering::SeqCst) && to.write_all(&bytes[..n]).is_err() {
            return;
        }
    }
}
