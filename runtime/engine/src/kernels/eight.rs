//! Eight floats at a time: the width in which the engine orders its sums.
//!
//! Loops whose sums have to stay in registers are written once, for any [`Eight`]; an instruction set brings its
//! registers. (Compilers do find vectors in plain loops over arrays of eight, but not reliably: a change elsewhere can make
//! such a loop eight times slower.) Elementwise loops need none of this.
//!
//! Such a loop is inlined, with all it calls, into a function compiled for the instruction set. What the standard library
//! does not force to be inlined (`from_fn` and `map` of arrays, for one) must not be called with an [`Eight`] in it.

/// Eight f32; what an operation does to one, it does to each.
pub trait Eight: Copy {
    /// The same in all places.
    fn splat(v: f32) -> Self;

    /// From memory.
    fn load(from: &[f32; 8]) -> Self;

    /// As an array.
    fn array(self) -> [f32; 8];

    /// self + other.
    fn add(self, other: Self) -> Self;

    /// self − other.
    fn sub(self, other: Self) -> Self;

    /// self · other.
    fn mul(self, other: Self) -> Self;

    /// self if it is smaller, else other.
    fn least(self, other: Self) -> Self;

    /// self if it is larger, else other.
    fn most(self, other: Self) -> Self;

    /// The sum of all, in the order of [`tree`].
    fn sum(self) -> f32 {
        tree(self.array())
    }
}

/// The fixed tree that ends every floating-point reduction.
#[inline(always)]
pub fn tree(s: [f32; 8]) -> f32 {
    ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]))
}

/// Plain Rust, for every target.
#[derive(Clone, Copy, Debug)]
pub struct Plain([f32; 8]);

impl Plain {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let mut all = self.0;
        all.iter_mut().zip(other.0).for_each(|(a, b)| *a = f(*a, b));
        Plain(all)
    }
}

impl Eight for Plain {
    #[inline(always)]
    fn splat(v: f32) -> Self {
        Plain([v; 8])
    }

    #[inline(always)]
    fn load(from: &[f32; 8]) -> Self {
        Plain(*from)
    }

    #[inline(always)]
    fn array(self) -> [f32; 8] {
        self.0
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    #[inline(always)]
    fn least(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn most(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }
}

/// What every [`Eight`] must do; each instruction set's tests call it.
#[cfg(test)]
pub(super) fn holds<V: Eight>() {
    let (a, b) = (
        [1.5, -2.0, f32::NAN, 0.0, 3e8, -7.25, 1e-3, f32::INFINITY],
        [0.25, 4.0, 1.0, f32::NAN, -3.0, -7.5, 2e-3, -1.0],
    );
    let bits = |v: [f32; 8]| v.map(f32::to_bits);
    let same = |got: V, f: fn(f32, f32) -> f32| {
        let want: [f32; 8] = core::array::from_fn(|i| f(a[i], b[i]));
        for (got, want) in got.array().into_iter().zip(want) {
            assert!(got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan());
        }
    };
    let (x, y) = (V::load(&a), V::load(&b));
    same(x.add(y), |a, b| a + b);
    same(x.sub(y), |a, b| a - b);
    same(x.mul(y), |a, b| a * b);
    same(x.least(y), |a, b| if a < b { a } else { b });
    same(x.most(y), |a, b| if a > b { a } else { b });
    assert_eq!(bits(V::splat(0.1).array()), bits([0.1; 8]));
    let uneven = core::array::from_fn(|i| 0.1 + 1e3 * (i * i) as f32);
    assert_eq!(V::load(&uneven).sum().to_bits(), tree(uneven).to_bits());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_rust_is_what_it_says() {
        holds::<Plain>();
    }
}
