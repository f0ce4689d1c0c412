//! Files that are there whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Writes a file aside and renames it, so that whoever reads meanwhile sees the old one or the new one. Makes the folders
/// above it. What is there and is no plain file (`/dev/stderr`, a pipe) is written to as it is.
///
/// # Errors
/// When the folder or the file can't be written; what was there before is as it was.
pub(super) fn save(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // through links, which stay what they are
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let before = fs::metadata(&path).ok();
    if before.as_ref().is_some_and(|m| !m.is_file()) {
        return OpenOptions::new().write(true).open(&path)?.write_all(bytes);
    }
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder)?;
    let aside = aside(folder, &path)?;
    // what a process of the same number has left; nothing is written through a link that waits there
    let _ = fs::remove_file(&aside);
    let written = File::create_new(&aside).and_then(|mut file| {
        file.write_all(bytes)?;
        if let Some(before) = &before {
            file.set_permissions(before.permissions())?;
        }
        fs::rename(&aside, &path)
    });
    if written.is_err() {
        // nothing is left to do about a file that can't be removed
        let _ = fs::remove_file(&aside);
    }
    written
}

/// A name beside the file, of this process alone. It begins with a dot and does not end in what collectors look for.
fn aside(folder: &Path, path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    Ok(folder.join(format!(".{}.{}.new", name.to_string_lossy(), std::process::id())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_with_its_links_and_permissions() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/report.xml");
        save(&path, b"one").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let link = dir.path().join("link.xml");
        symlink(&path, &link).unwrap();
        save(&link, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(
            fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "nothing is left aside"
        );
    }

    #[test]
    fn what_cannot_be_written_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "x").unwrap();
        assert!(save(&dir.path().join("file/report.xml"), b"one").is_err());
        assert!(save(dir.path(), b"one").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
