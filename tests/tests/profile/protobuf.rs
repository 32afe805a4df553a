//! A reader of pprof's format that knows nothing of who wrote it: fields by number, as
//! profile.proto has them.

use std::collections::HashMap;
use std::io::Read as _;

use flate2::read::GzDecoder;

/// A field of a message: a number, or bytes.
#[derive(Clone, Copy)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (first, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            break;
        }
    }
    value
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Value<'_>)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut bytes)),
            2 => {
                let len = varint(&mut bytes) as usize;
                let (value, rest) = bytes.split_at(len);
                bytes = rest;
                Value::Bytes(value)
            }
            other => panic!("wire type {other}"),
        };
        fields.push((tag >> 3, value));
    }
    fields
}

fn messages(bytes: &[u8], field: u64) -> impl Iterator<Item = &[u8]> {
    fields(bytes).into_iter().filter_map(move |(number, value)| match value {
        Value::Bytes(bytes) if number == field => Some(bytes),
        _ => None,
    })
}

fn number(bytes: &[u8], field: u64) -> u64 {
    let found = fields(bytes).into_iter().find_map(|(number, value)| match value {
        Value::Number(value) if number == field => Some(value),
        _ => None,
    });
    found.unwrap_or(0)
}

fn packed(bytes: &[u8], field: u64) -> Vec<u64> {
    let mut all = Vec::new();
    for mut values in messages(bytes, field) {
        while !values.is_empty() {
            all.push(varint(&mut values));
        }
    }
    all
}

/// Functions with lines, the innermost first.
type Stack = Vec<(String, u64)>;

/// What the tests ask of a profile.
pub(crate) struct Profile {
    pub(crate) sample_types: Vec<String>,
    pub(crate) period: u64,
    pub(crate) mappings: Vec<String>,
    /// Each with its values.
    samples: Vec<(Stack, Vec<u64>)>,
}

impl Profile {
    pub(crate) fn read(gzip: &[u8]) -> Profile {
        let mut bytes = Vec::new();
        GzDecoder::new(gzip).read_to_end(&mut bytes).unwrap();
        let strings: Vec<String> =
            messages(&bytes, 6).map(|text| String::from_utf8(text.to_vec()).unwrap()).collect();
        assert_eq!(strings[0], "", "the first string is empty");
        let string = |index: u64| strings[index as usize].clone();
        let functions: HashMap<u64, String> = messages(&bytes, 5)
            .map(|function| (number(function, 1), string(number(function, 2))))
            .collect();
        let mut locations = HashMap::new();
        let nr_mappings = messages(&bytes, 3).count() as u64;
        for location in messages(&bytes, 4) {
            assert!(number(location, 2) <= nr_mappings, "a mapping that is not there");
            let lines = messages(location, 4);
            let lines: Vec<(String, u64)> =
                lines.map(|line| (functions[&number(line, 1)].clone(), number(line, 2))).collect();
            let before = locations.insert(number(location, 1), lines);
            assert!(before.is_none(), "a location twice");
        }
        let samples = messages(&bytes, 2).map(|sample| {
            let stack = packed(sample, 1).iter().flat_map(|id| locations[id].clone()).collect();
            (stack, packed(sample, 2))
        });
        Profile {
            sample_types: messages(&bytes, 1).map(|kind| string(number(kind, 1))).collect(),
            period: number(&bytes, 12),
            mappings: messages(&bytes, 3).map(|mapping| string(number(mapping, 5))).collect(),
            samples: samples.collect(),
        }
    }

    /// The sum of a value over all stacks with `function`.
    pub(crate) fn sum_of(&self, function: &str, value: usize) -> u64 {
        let with = |stack: &[(String, u64)]| stack.iter().any(|(name, _)| name == function);
        self.samples.iter().filter(|(stack, _)| with(stack)).map(|(_, values)| values[value]).sum()
    }

    /// The line of the first frame in `function`.
    pub(crate) fn line_of(&self, function: &str) -> Option<u64> {
        let mut frames = self.samples.iter().flat_map(|(stack, _)| stack);
        frames.find(|(name, _)| name == function).map(|(_, line)| *line)
    }
}
