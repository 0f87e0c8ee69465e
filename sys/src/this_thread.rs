//! Which thread this is.

thread_local! {
    /// Its address is the thread's own for as long as the thread lives.
    static MARK: u8 = const { 0 };
}

/// A number that no other thread has while this one lives.
///
/// ```
/// let here = myriapod_sys::this_thread();
/// assert_eq!(here, myriapod_sys::this_thread());
/// let there = std::thread::spawn(myriapod_sys::this_thread).join().unwrap();
/// # let _ = there;
/// ```
#[must_use]
pub fn this_thread() -> usize {
    MARK.with(|mark| std::ptr::from_ref(mark).addr())
}
