//! pprof's own format: `profile.proto` in gzip.
//!
//! The few messages and fields that are needed, written by hand: tag, then a number, or a length
//! and bytes. Field numbers are those of github.com/google/pprof/proto/profile.proto.

use std::collections::HashMap;
use std::hash::Hash;
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::dump::Dump;
use super::symbols::{Place, Symbols, is_allocator};

/// What each sample has a value for: name and unit. The last one is what pprof shows first.
const SAMPLE_TYPES: [(&str, &str); 4] = [
    ("alloc_objects", "count"),
    ("alloc_space", "bytes"),
    ("inuse_objects", "count"),
    ("inuse_space", "bytes"),
];

pub(super) fn write(dump: &Dump, symbols: &mut Symbols<'_>) -> Result<Vec<u8>> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&Profile::new(dump, symbols).finish())?;
    Ok(gzip.finish()?)
}

/// A protobuf message under construction.
#[derive(Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(&mut self, field: u32, value: u64) {
        // The default is left out.
        if value != 0 {
            self.varint(u64::from(field) << 3);
            self.varint(value);
        }
    }

    fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn numbers(&mut self, field: u32, values: impl IntoIterator<Item = u64>) {
        let mut packed = Message::default();
        values.into_iter().for_each(|value| packed.varint(value));
        self.bytes(field, &packed.0);
    }
}

/// Numbers things from 1 on, as they come.
#[derive(Debug)]
struct Ids<T>(HashMap<T, u64>);

impl<T: Eq + Hash> Ids<T> {
    /// The number, and whether it is a new one.
    fn of(&mut self, thing: T) -> (u64, bool) {
        let next = self.0.len() as u64 + 1;
        let id = *self.0.entry(thing).or_insert(next);
        (id, id == next)
    }
}

/// Fields of the message `Profile`.
struct Profile {
    body: Message,
    /// Number 0 is the empty string.
    strings: Ids<String>,
    string_table: Message,
    functions: Ids<(String, String)>,
    locations: Ids<u64>,
}

impl Profile {
    fn new(dump: &Dump, symbols: &mut Symbols<'_>) -> Self {
        let mut profile = Self {
            body: Message::default(),
            strings: Ids(HashMap::new()),
            string_table: Message::default(),
            functions: Ids(HashMap::new()),
            locations: Ids(HashMap::new()),
        };
        profile.string_table.bytes(6, b"");
        for (name, unit) in SAMPLE_TYPES {
            let value_type = profile.value_type(name, unit);
            profile.body.bytes(1, &value_type.0);
        }
        for stack in &dump.stacks {
            let mut locations = Vec::new();
            for frame in &stack.frames {
                let places = symbols.places(*frame);
                let inner = locations.is_empty();
                if !(inner && places.iter().all(|place| is_allocator(&place.function))) {
                    locations.push(profile.location(dump, *frame, places));
                }
            }
            let mut sample = Message::default();
            sample.numbers(1, locations);
            let values = [stack.total, stack.total_bytes, stack.live, stack.live_bytes];
            sample.numbers(2, values.map(i64::cast_unsigned));
            profile.body.bytes(2, &sample.0);
        }
        profile.mappings(dump);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
        profile.body.number(9, u64::try_from(now).unwrap_or(0));
        let period_type = profile.value_type("space", "bytes");
        profile.body.bytes(11, &period_type.0);
        profile.body.number(12, dump.rate.unwrap_or(0).unsigned_abs());
        let shown = profile.string("inuse_space");
        profile.body.number(14, shown);
        profile
    }

    fn finish(self) -> Vec<u8> {
        let mut bytes = self.body.0;
        bytes.extend(self.string_table.0);
        bytes
    }

    fn string(&mut self, text: &str) -> u64 {
        if text.is_empty() {
            return 0;
        }
        let (id, is_new) = self.strings.of(text.to_owned());
        if is_new {
            self.string_table.bytes(6, text.as_bytes());
        }
        id
    }

    fn value_type(&mut self, name: &str, unit: &str) -> Message {
        let mut message = Message::default();
        message.number(1, self.string(name));
        message.number(2, self.string(unit));
        message
    }

    fn location(&mut self, dump: &Dump, address: u64, places: &[Place]) -> u64 {
        let (id, is_new) = self.locations.of(address);
        if !is_new {
            return id;
        }
        let mut message = Message::default();
        message.number(1, id);
        let mapping = dump.mappings.iter().position(|mapping| mapping.contains(address));
        message.number(2, mapping.map_or(0, |index| index as u64 + 1));
        message.number(3, address);
        for place in places {
            let mut line = Message::default();
            line.number(1, self.function(place));
            line.number(2, place.line.unwrap_or(0).into());
            message.bytes(4, &line.0);
        }
        self.body.bytes(4, &message.0);
        id
    }

    fn function(&mut self, place: &Place) -> u64 {
        let file = place.file.clone().unwrap_or_default();
        let (id, is_new) = self.functions.of((place.function.clone(), file.clone()));
        if is_new {
            let name = self.string(&place.function);
            let file = self.string(&file);
            let mut message = Message::default();
            message.number(1, id);
            message.number(2, name);
            message.number(3, name);
            message.number(4, file);
            self.body.bytes(5, &message.0);
        }
        id
    }

    fn mappings(&mut self, dump: &Dump) {
        for (index, mapping) in dump.mappings.iter().enumerate() {
            let path = self.string(&mapping.path);
            let mut message = Message::default();
            message.number(1, index as u64 + 1);
            message.number(2, mapping.start);
            message.number(3, mapping.end);
            message.number(4, mapping.offset);
            message.number(5, path);
            // It has functions, file names, lines and inlined frames: no need to look them up.
            (7..=10).for_each(|field| message.number(field, 1));
            self.body.bytes(3, &message.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_protobuf_has_them() {
        let mut message = Message::default();
        message.number(1, 150);
        message.number(2, 0);
        message.bytes(2, b"testing");
        message.numbers(4, [3, 270, 86_942]);
        let expected = [
            &[0x08, 0x96, 0x01, 0x12, 0x07][..],
            b"testing",
            &[0x22, 0x06, 0x03, 0x8e, 0x02, 0x9e, 0xa7, 0x05],
        ];
        assert_eq!(message.0, expected.concat());
    }
}
