//! `flaws!`: an enum with a list of its variants.

/// Writes the enum and the list of its variants.
macro_rules! flaws {
    ($($(#[doc = $doc:literal])+ $flaw:ident,)+) => {
        /// A bug, planted on purpose.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) enum Flaw {
            /// No bug at all.
            Sound,
            $($(#[doc = $doc])+ $flaw,)+
        }

        impl Flaw {
            /// All of them; each stands at its own number.
            pub(crate) const ALL: &[Self] = &[Self::Sound, $(Self::$flaw),+];
        }
    };
}

pub(crate) use flaws;
