//! Loops compiled for wider vectors than those of the build, where the processor has them.

/// Defines a function that is compiled a second time, for vectors of four doubles, and runs so where the processor has them.
///
/// What it calls gains only if it is inlined: mark that `#[inline(always)]`. Additions and multiplications stay as they are
/// written, none of them fused, so the bits are the same on every processor.
macro_rules! in_wide_vectors {
    (
        $(#[$attribute:meta])*
        fn $name:ident $(<$generic:ident: $bound:path>)? ($($arg:ident: $type:ty),* $(,)?) $(-> $output:ty)? $body:block
    ) => {
        $(#[$attribute])*
        fn $name $(<$generic: $bound>)? ($($arg: $type),*) $(-> $output)? {
            #[inline(always)]
            fn in_vectors $(<$generic: $bound>)? ($($arg: $type),*) $(-> $output)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn in_avx2 $(<$generic: $bound>)? ($($arg: $type),*) $(-> $output)? {
                in_vectors($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") {
                // SAFETY: the processor has AVX2, the one feature that the function is compiled with.
                return unsafe { in_avx2($($arg),*) };
            }
            in_vectors($($arg),*)
        }
    };
}

pub(crate) use in_wide_vectors;
