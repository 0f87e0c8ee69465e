//! [`Output`]: where a result goes, opened before there is one.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::terminal::standard_output;

/// A file that keeps what it holds until something else is written, or standard output.
#[derive(Debug)]
pub(crate) enum Output {
    Stdout,
    /// It was there before.
    Kept(File, PathBuf),
    /// It can be made, and is once there is something to write: an empty one would pass for a
    /// result.
    New(PathBuf),
}

impl Output {
    /// # Errors
    ///
    /// A file that cannot be written.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |error: &_| Failure::io("open", path.display(), error);
        match OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(_) => {
                std::fs::remove_file(path).map_err(|error| failed(&error))?;
                Ok(Self::New(path.to_owned()))
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let file = OpenOptions::new().write(true).open(path);
                Ok(Self::Kept(file.map_err(|error| failed(&error))?, path.to_owned()))
            }
            Err(error) => Err(failed(&error)),
        }
    }

    /// The same, with `-` for standard output.
    pub(crate) fn open_or_stdout(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") { Ok(Self::Stdout) } else { Self::open(path) }
    }

    pub(crate) const fn is_stdout(&self) -> bool {
        matches!(self, Self::Stdout)
    }

    /// # Errors
    ///
    /// Those of writing.
    pub(crate) fn write(self, bytes: &[u8]) -> Result<(), Failure> {
        let (written, path) = match self {
            Self::Stdout => {
                let mut stdout = standard_output();
                let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
                return written.map_err(|error| Failure::output(&error));
            }
            Self::New(path) => (std::fs::write(&path, bytes), path),
            Self::Kept(file, path) => (replace(file, bytes), path),
        };
        written.map_err(|error| Failure::io("write", path.display(), &error))
    }
}

/// Writes a file anew.
fn replace(mut file: File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    // What was longer before ends here; a pipe or a device has no length.
    match file.metadata()?.is_file() {
        true => file.set_len(bytes.len() as u64),
        false => Ok(()),
    }
}
