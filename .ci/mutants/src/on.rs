
/// Which change is asked for: `MUTANT=7`. With `MUTANT_TRACE=FILE`, each byte of the file says whether
/// its change was asked about.
#[doc(hidden)]
#[allow(missing_docs, clippy::all)]
pub mod mutants {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU8, Ordering};

    static ASKED: OnceLock<(u32, &'static [AtomicU8])> = OnceLock::new();

    fn ask() -> (u32, &'static [AtomicU8]) {
        let chosen = std::env::var("MUTANT").ok().and_then(|text| text.parse().ok());
        let trace = std::env::var_os("MUTANT_TRACE").and_then(|path| {
            let file = std::fs::File::options().read(true).write(true).open(path).ok()?;
            let len = usize::try_from(file.metadata().ok()?.len()).ok()?;
            // SAFETY: a new mapping of a file that nobody cuts short; it stays for the whole run.
            let at = unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    len,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_SHARED,
                    std::os::fd::AsRawFd::as_raw_fd(&file),
                    0,
                )
            };
            // SAFETY: the mapping has `len` bytes, and all of them are only used as atomics.
            (at != libc::MAP_FAILED).then(|| unsafe { std::slice::from_raw_parts(at.cast(), len) })
        });
        (chosen.unwrap_or(u32::MAX), trace.unwrap_or_default())
    }

    #[inline]
    pub fn on(id: u32) -> bool {
        let (chosen, trace) = ASKED.get_or_init(ask);
        if let Some(byte) = trace.get(id as usize) {
            byte.store(1, Ordering::Relaxed);
        }
        *chosen == id
    }
}
