//! The kernel's texts: lists of ranges (`0-3,8`) and rows of numbers (`10 21`).

/// The ranges of a list, first and last number included: `None` if the text is
/// anything but a list. An empty line is an empty list.
pub(crate) fn for_each_range(text: &[u8], mut each: impl FnMut(u32, u32)) -> Option<()> {
    let text = text.trim_ascii();
    if text.is_empty() {
        return Some(());
    }
    // Nothing is passed on before the whole text has proved to be a list.
    for range in text.split(|&b| b == b',') {
        parse_range(range)?;
    }
    for range in text.split(|&b| b == b',') {
        let (first, last) = parse_range(range)?;
        each(first, last);
    }
    Some(())
}

fn parse_range(text: &[u8]) -> Option<(u32, u32)> {
    let mut ends = text.splitn(2, |&b| b == b'-');
    let first = parse_number(ends.next()?)?;
    let last = match ends.next() {
        Some(last) => parse_number(last)?,
        None => first,
    };
    (first <= last).then_some((first, last))
}

/// A decimal number, digits only.
pub(crate) fn parse_number(text: &[u8]) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u32, |number, &digit| {
        let digit = digit.is_ascii_digit().then(|| u32::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// The numbers of a row, as far as they are numbers.
pub(crate) fn numbers(text: &[u8]) -> impl Iterator<Item = u32> {
    let words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    words.map_while(parse_number)
}
