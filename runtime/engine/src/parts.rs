//! Parts of slices whose sizes were checked when the model was opened: nothing here panics in a release build.

/// The first `len` elements; none if there are fewer, which would be a mistake of the plan.
#[inline(always)]
pub(crate) fn first<T>(all: &[T], len: usize) -> &[T] {
    debug_assert!(len <= all.len());
    all.get(..len).unwrap_or(&[])
}

/// [`first`], to write to.
#[inline(always)]
pub(crate) fn first_mut<T>(all: &mut [T], len: usize) -> &mut [T] {
    debug_assert!(len <= all.len());
    all.get_mut(..len).unwrap_or(&mut [])
}
