//! Parts of slices whose sizes were checked when the model was opened: nothing here panics in a release build.
//!
//! A part that is not there would be a mistake of the plan. Debug builds stop at it; others compute nothing from it, since a
//! device that reads lips must not go down over it.

/// The first `len` elements; none if there are fewer.
#[inline(always)]
pub(crate) fn first<T>(all: &[T], len: usize) -> &[T] {
    debug_assert!(len <= all.len(), "{len} of {}", all.len());
    all.get(..len).unwrap_or(&[])
}

/// [`first`], to write to.
#[inline(always)]
pub(crate) fn first_mut<T>(all: &mut [T], len: usize) -> &mut [T] {
    debug_assert!(len <= all.len(), "{len} of {}", all.len());
    all.get_mut(..len).unwrap_or(&mut [])
}

/// The elements from `at` on.
#[inline(always)]
pub(crate) fn after<T>(all: &[T], at: usize) -> &[T] {
    debug_assert!(at <= all.len(), "from {at} of {}", all.len());
    all.get(at..).unwrap_or(&[])
}

/// `len` elements from `at` on; none if there are fewer.
#[inline(always)]
pub(crate) fn part<T>(all: &[T], at: usize, len: usize) -> &[T] {
    first(after(all, at), len)
}

/// [`part`], to write to.
#[inline(always)]
pub(crate) fn part_mut<T>(all: &mut [T], at: usize, len: usize) -> &mut [T] {
    debug_assert!(at <= all.len(), "from {at} of {}", all.len());
    first_mut(all.get_mut(at..).unwrap_or(&mut []), len)
}

/// The first N parts of `len` elements each; `None` if there are fewer. An early return for it tells the compiler the
/// lengths, which takes checks out of inner loops; empty parts would not.
#[inline(always)]
pub(crate) fn equal_parts<T, const N: usize>(all: &[T], len: usize) -> Option<[&[T]; N]> {
    debug_assert!(N * len <= all.len(), "{N} times {len} of {}", all.len());
    let mut rest = all;
    let mut parts = [rest; N];
    for part in &mut parts {
        (*part, rest) = rest.split_at_checked(len)?;
    }
    Some(parts)
}

/// Copies elements to as many others.
#[inline(always)]
pub(crate) fn copy<T: Copy>(from: &[T], to: &mut [T]) {
    debug_assert_eq!(from.len(), to.len());
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
}
