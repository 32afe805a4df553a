//! One figure, one line: its field, its name, what it counts, and what it means.

/// What a figure counts in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Things or events.
    Count,
    /// Pages of 4 KiB.
    Pages,
    /// Bytes.
    Bytes,
    /// Nanoseconds.
    Nanoseconds,
}

/// How a figure moves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Up and down.
    Gauge,
    /// Only up, from the start of the process.
    Counter,
}

/// What is known about a figure.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// Its field and its key in JSON.
    pub name: &'static str,
    /// How it moves.
    pub kind: Kind,
    /// What it counts in.
    pub unit: Unit,
    /// What it means, one sentence; may begin with a space.
    pub help: &'static str,
}

/// A struct of figures.
pub trait Figures {
    /// The figures in the order of the fields.
    const TABLE: &'static [Figure];

    /// Each figure with its value.
    fn values(&self) -> impl Iterator<Item = (&'static Figure, u64)>;

    /// Adds the figures of another one.
    fn add(&mut self, other: &Self);
}

/// Defines a struct of `u64` and its table. The documentation of a field is its help text.
macro_rules! figures {
    (
        $(#[doc = $about:literal])*
        pub struct $name:ident {
            $($(#[doc = $help:literal])+ $field:ident: $kind:ident $unit:ident,)*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
        #[repr(C)]
        pub struct $name {
            $($(#[doc = $help])+ pub $field: u64,)*
        }

        impl $crate::figure::Figures for $name {
            const TABLE: &'static [$crate::figure::Figure] = &[
                $($crate::figure::Figure {
                    name: stringify!($field),
                    kind: $crate::figure::Kind::$kind,
                    unit: $crate::figure::Unit::$unit,
                    help: concat!($($help),+),
                },)*
            ];

            fn values(&self) -> impl Iterator<Item = (&'static $crate::figure::Figure, u64)> {
                Self::TABLE.iter().zip([$(self.$field),*])
            }

            fn add(&mut self, other: &Self) {
                $(self.$field = self.$field.saturating_add(other.$field);)*
            }
        }
    };
}
pub(crate) use figures;
