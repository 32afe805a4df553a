//! Lists of numbers as the kernel writes them.

/// Ascending numbers as `0-3,8`.
pub(super) fn ranges(numbers: impl Iterator<Item = u32>) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let text = |&(first, last): &(u32, u32)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    ranges.iter().map(text).collect::<Vec<_>>().join(",")
}

/// Whether such a list names `number`.
pub(super) fn contains(list: &str, number: usize) -> bool {
    list.trim().split(',').any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        match (first.parse::<usize>(), last.parse::<usize>()) {
            (Ok(first), Ok(last)) => (first..=last).contains(&number),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{contains, ranges};

    #[test]
    fn ranges_are_those_of_the_kernel() {
        let of = |numbers: &[u32]| ranges(numbers.iter().copied());
        assert_eq!(of(&[]), "");
        assert_eq!(of(&[5]), "5");
        assert_eq!(of(&[0, 1, 2, 3, 8]), "0-3,8");
        assert_eq!(of(&[0, 2, 3]), "0,2-3");
    }

    #[test]
    fn lists_contain_what_they_say() {
        let named = |list: &str| (0..12).filter(|&n| contains(list, n)).collect::<Vec<_>>();
        assert_eq!(named("0-3,8\n"), [0, 1, 2, 3, 8]);
        assert_eq!(named("11"), [11]);
        assert_eq!(named(""), [0; 0]);
        assert_eq!(named("x,2"), [2]);
    }
}
