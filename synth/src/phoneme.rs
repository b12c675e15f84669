//! The phonemes (ARPAbet, the alphabet of the CMU pronouncing dictionary) with their usual
//! lengths and classes.

use core::fmt;

/// How a phoneme is made, as far as timing and voice care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// No speech.
    Silence,
    /// One steady vowel.
    Vowel,
    /// A vowel that glides from one target to another.
    Diphthong,
    /// Closure, then a burst.
    Plosive,
    /// Closure, then a hiss.
    Affricate,
    /// A hiss.
    Fricative,
    /// A voiced sound through the nose.
    Nasal,
    /// A vowel-like consonant.
    Approximant,
}

macro_rules! phonemes {
    ($($name:ident $manner:ident $ms:literal $voiced:literal $doc:literal,)*) => {
        /// One phoneme, named as in ARPAbet; `Ax` is the schwa and `Sil` is silence.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Phoneme {
            $(#[doc = $doc] $name,)*
        }

        impl Phoneme {
            /// Every phoneme, silence first.
            pub const ALL: &'static [Phoneme] = &[$(Phoneme::$name,)*];

            /// The ARPAbet symbol in capitals.
            #[must_use]
            pub fn symbol(self) -> &'static str {
                const SYMBOLS: &[&str] = &[$(stringify!($name),)*];
                SYMBOLS[self as usize]
            }

            /// Manner of articulation.
            #[must_use]
            pub fn manner(self) -> Manner {
                match self { $(Phoneme::$name => Manner::$manner,)* }
            }

            /// Usual length in seconds in brisk read speech.
            #[must_use]
            pub fn seconds(self) -> f32 {
                match self { $(Phoneme::$name => $ms as f32 * 0.001,)* }
            }

            /// Whether the vocal folds swing.
            #[must_use]
            pub fn voiced(self) -> bool {
                match self { $(Phoneme::$name => $voiced,)* }
            }
        }
    };
}

phonemes! {
    Sil Silence 200 false "silence",
    Aa Vowel 115 true "f*a*ther",
    Ae Vowel 90 true "b*a*t",
    Ah Vowel 70 true "b*u*t",
    Ao Vowel 110 true "f*ou*r",
    Aw Diphthong 130 true "n*ow*",
    Ax Vowel 42 true "*a*gain",
    Ay Diphthong 125 true "wh*i*te",
    Eh Vowel 75 true "r*e*d",
    Er Vowel 95 true "b*ir*d",
    Ey Diphthong 105 true "pl*a*ce",
    Ih Vowel 60 true "b*i*n",
    Iy Vowel 85 true "gr*ee*n",
    Ow Diphthong 105 true "zer*o*",
    Oy Diphthong 130 true "b*oy*",
    Uh Vowel 65 true "b*oo*k",
    Uw Vowel 90 true "bl*ue*",
    B Plosive 58 true "*b*in",
    Ch Affricate 90 false "*ch*in",
    D Plosive 50 true "*d*o",
    Dh Fricative 42 true "*th*is",
    F Fricative 78 false "*f*ive",
    G Plosive 58 true "*g*reen",
    Hh Fricative 45 false "*h*ouse",
    Jh Affricate 75 true "*j*ust",
    K Plosive 68 false "*k*ey",
    L Approximant 55 true "*l*ay",
    M Nasal 60 true "*m*ay",
    N Nasal 55 true "*n*ow",
    Ng Nasal 60 true "si*ng*",
    P Plosive 75 false "*p*lace",
    R Approximant 50 true "*r*ed",
    S Fricative 88 false "*s*et",
    Sh Fricative 92 false "*sh*e",
    T Plosive 62 false "*t*wo",
    Th Fricative 75 false "*th*ree",
    V Fricative 50 true "fi*v*e",
    W Approximant 52 true "*w*ith",
    Y Approximant 42 true "*y*ou",
    Z Fricative 68 true "*z*ero",
    Zh Fricative 65 true "mea*s*ure",
}

impl Phoneme {
    /// The phoneme with this ARPAbet symbol (capitals, no stress digit).
    #[must_use]
    pub fn from_symbol(symbol: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|p| p.symbol().eq_ignore_ascii_case(symbol))
    }

    /// Whether this is a vowel or diphthong.
    #[must_use]
    pub fn is_vowel(self) -> bool {
        matches!(self.manner(), Manner::Vowel | Manner::Diphthong)
    }

    /// Whether the lips must meet: p, b, m.
    #[must_use]
    pub fn closes_lips(self) -> bool {
        matches!(self, Self::P | Self::B | Self::M)
    }
}

impl fmt::Display for Phoneme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.symbol().chars() {
            write!(f, "{}", c.to_ascii_uppercase())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_round_trip() {
        for &p in Phoneme::ALL {
            assert_eq!(Phoneme::from_symbol(&p.to_string()), Some(p));
        }
        assert_eq!(Phoneme::from_symbol("QQ"), None);
    }
}
