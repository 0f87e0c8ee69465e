//! [`release_pages`]: memory that is kept but not needed for now goes back to the kernel.

/// `int madvise(void *address, size_t len, int advice)`
///
/// Gives the whole pages within the spare capacity of `buffer` back to the kernel, and returns how
/// many bytes that were. The buffer keeps its capacity, and the pages come back, zeroed, as soon as
/// they are written to. Parts of pages at either end stay, and so does everything where the system
/// refuses: this is advice.
///
/// A freed buffer need not leave memory: allocators keep what they may need again. Released before
/// it is freed, it has left all the same.
///
/// Linux gives back at once (`MADV_DONTNEED`); elsewhere the kernel takes the pages when it is short
/// of memory (`MADV_FREE`).
///
/// ```
/// let mut buffer = Vec::with_capacity(1 << 20);
/// buffer.extend_from_slice(b"kept");
/// assert!(myriapod_sys::release_pages(&mut buffer) <= 1 << 20);
/// assert_eq!(buffer, b"kept");
/// ```
///
/// Source: madvise(2).
pub fn release_pages(buffer: &mut Vec<u8>) -> usize {
    let spare = buffer.spare_capacity_mut();
    let page = page_size();
    let skipped = spare.as_ptr().align_offset(page);
    let Some(whole) = spare.len().checked_sub(skipped).map(|rest| rest - rest % page) else {
        return 0;
    };
    let Some(pages) = spare.get_mut(skipped..skipped + whole).filter(|pages| !pages.is_empty())
    else {
        return 0;
    };
    // SAFETY: whole pages of spare capacity, borrowed for the call's length; nobody relies on what
    // uninitialized bytes hold.
    let released = unsafe { libc::madvise(pages.as_mut_ptr().cast(), pages.len(), ADVICE) };
    if released == 0 { whole } else { 0 }
}

#[cfg(target_os = "linux")]
const ADVICE: libc::c_int = libc::MADV_DONTNEED;
#[cfg(not(target_os = "linux"))]
const ADVICE: libc::c_int = libc::MADV_FREE;

/// `long sysconf(_SC_PAGESIZE)`, in bytes; a power of two.
fn page_size() -> usize {
    // SAFETY: sysconf has no memory of ours to touch.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).ok().filter(|size| size.is_power_of_two()).unwrap_or(1 << 16)
}
