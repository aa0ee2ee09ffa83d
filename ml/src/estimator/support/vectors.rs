//! Loops compiled for wider vectors than those of the build, where the processor has them.

/// Runs `work` with vectors of four doubles where the processor has them.
///
/// Only what is inlined into `work` gains: mark the functions that it calls `#[inline(always)]`. Additions and
/// multiplications stay as they are written, none of them fused, so the bits are the same on every processor.
#[inline(always)]
pub(crate) fn widest<T>(work: impl FnOnce() -> T) -> T {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, the one feature that the function is compiled with.
        return unsafe { with_avx2(work) };
    }
    work()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn with_avx2<T>(work: impl FnOnce() -> T) -> T {
    work()
}
