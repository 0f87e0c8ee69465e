//! [`Output`]: where a result goes, opened before there is one.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::terminal::standard_output;

/// A file that keeps what it holds until something else is written, or standard output.
#[derive(Debug)]
pub(crate) struct Output {
    /// `None` for standard output.
    file: Option<(File, PathBuf)>,
    /// It was not there before, so it goes again if nothing is written.
    fresh: bool,
}

impl Output {
    /// # Errors
    ///
    /// A file that cannot be written.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let new = OpenOptions::new().write(true).create_new(true).open(path);
        let fresh = new.is_ok();
        let opened = match new {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                OpenOptions::new().write(true).open(path)
            }
            opened => opened,
        };
        let file = opened.map_err(|error| Failure::io("open", path.display(), &error))?;
        Ok(Self { file: Some((file, path.to_owned())), fresh })
    }

    /// The same, with `-` for standard output.
    pub(crate) fn open_or_stdout(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Self { file: None, fresh: false });
        }
        Self::open(path)
    }

    pub(crate) const fn is_stdout(&self) -> bool {
        self.file.is_none()
    }

    /// # Errors
    ///
    /// Those of writing.
    pub(crate) fn write(mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.fresh = false;
        let Some((file, path)) = &mut self.file else {
            let mut stdout = standard_output();
            let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
            return written.map_err(|error| Failure::output(&error));
        };
        let written = file.write_all(bytes).and_then(|()| {
            // What was longer before ends here; a device has no length.
            let end = file.stream_position()?;
            let is_file = file.metadata()?.is_file();
            if is_file { file.set_len(end) } else { Ok(()) }
        });
        written.map_err(|error| Failure::io("write", path.display(), &error))
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let (true, Some((_, path))) = (self.fresh, &self.file) {
            // An empty file would pass for a result.
            let _ = std::fs::remove_file(path);
        }
    }
}
