//! Sizes for people.

/// `512 KiB`, `3.4 GiB`: three digits at most, so that columns stay narrow.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    let mut whole = bytes;
    let mut tenths = 0;
    while whole >= 1000 && unit + 1 < UNITS.len() {
        tenths = whole % 1024 * 10 / 1024;
        whole /= 1024;
        unit += 1;
    }
    if unit == 0 || whole >= 100 {
        format!("{whole} {}", UNITS[unit])
    } else {
        format!("{whole}.{tenths} {}", UNITS[unit])
    }
}

/// `512K`, `3.4G`: the same where there is little room.
pub(crate) fn compact(bytes: u64) -> String {
    let text = size(bytes);
    text.trim_end_matches('B').trim_end_matches('i').replace(' ', "")
}

#[cfg(test)]
mod tests {
    use super::{compact, size};

    #[test]
    fn compact_sizes_keep_the_prefix() {
        assert_eq!([0, 150 << 10, 7 << 29].map(compact), ["0", "150K", "3.5G"]);
    }

    #[test]
    fn sizes_have_three_digits() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "0.9 KiB"),
            (4096, "4.0 KiB"),
            (150 << 10, "150 KiB"),
            ((3 << 30) + (512 << 20), "3.5 GiB"),
            (u64::MAX, "16383 PiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text);
        }
    }
}
