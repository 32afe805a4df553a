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
    fn table() -> impl Iterator<Item = Figure>;

    /// Each figure with its value.
    fn values(&self) -> impl Iterator<Item = (Figure, u64)>;

    /// Adds the figures of another one.
    fn add(&mut self, other: &Self);
}

/// The figures of a struct: a line for each name and one for its help text. In one piece, since of each text by itself
/// the dynamic linker would write the address in every process.
pub(crate) fn table(
    texts: &'static str,
    kinds: &'static [(Kind, Unit)],
) -> impl Iterator<Item = Figure> {
    let mut lines = texts.split('\n');
    kinds.iter().map_while(move |&(kind, unit)| {
        Some(Figure { name: lines.next()?, kind, unit, help: lines.next()? })
    })
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
            fn table() -> impl Iterator<Item = $crate::figure::Figure> {
                let texts = concat!($(stringify!($field), "\n", $($help,)+ "\n"),*);
                let kinds = &[$(($crate::figure::Kind::$kind, $crate::figure::Unit::$unit)),*];
                $crate::figure::table(texts, kinds)
            }

            fn values(&self) -> impl Iterator<Item = ($crate::figure::Figure, u64)> {
                Self::table().zip([$(self.$field),*])
            }

            fn add(&mut self, other: &Self) {
                $(self.$field = self.$field.saturating_add(other.$field);)*
            }
        }
    };
}
pub(crate) use figures;
