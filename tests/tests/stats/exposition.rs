//! A strict reader of Prometheus text exposition, format 0.0.4: what it refuses, Prometheus refuses
//! or warns about.

use std::collections::BTreeMap;

/// All samples of one name.
#[derive(Debug, Default)]
pub(crate) struct Family {
    pub(crate) help: String,
    pub(crate) kind: String,
    /// By labels, as they stand.
    pub(crate) samples: BTreeMap<String, f64>,
}

/// A whole text.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    pub(crate) families: BTreeMap<String, Family>,
}

impl Exposition {
    /// Reads a text, or says which line is wrong and why.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if !text.ends_with('\n') {
            return Err("the last line has no end".into());
        }
        let mut all = Self::default();
        let mut current = String::new();
        for line in text.lines() {
            all.line(line, &mut current).map_err(|why| format!("{why}: {line:?}"))?;
        }
        Ok(all)
    }

    fn line(&mut self, line: &str, current: &mut String) -> Result<(), &'static str> {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').ok_or("no help text")?;
            unescape(help, false)?;
            if !is_name(name, ":") {
                return Err("not a name");
            }
            let family = Family { help: help.into(), ..Family::default() };
            if self.families.insert(name.into(), family).is_some() {
                return Err("the family was there before");
            }
            *current = name.into();
            return Ok(());
        }
        let family = self.families.get_mut(current).ok_or("no family yet")?;
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or("no type")?;
            let is_first = family.kind.is_empty() && family.samples.is_empty();
            if name != *current || !is_first || !["counter", "gauge"].contains(&kind) {
                return Err("not a type of this family");
            }
            family.kind = kind.into();
            return Ok(());
        }
        if family.kind.is_empty() {
            return Err("a sample before its type");
        }
        let (sample, value) = line.rsplit_once(' ').ok_or("no value")?;
        let (name, labels) = match sample.split_once('{') {
            Some((name, rest)) => (name, rest.strip_suffix('}').ok_or("labels have no end")?),
            None => (sample, ""),
        };
        if name != *current {
            return Err("a sample of another family");
        }
        check_labels(labels)?;
        let value: f64 = value.parse().map_err(|_| "not a number")?;
        if family.kind == "counter" && value < 0.0 {
            return Err("a negative counter");
        }
        match family.samples.insert(labels.into(), value) {
            None => Ok(()),
            Some(_) => Err("the sample was there before"),
        }
    }
}

fn check_labels(mut text: &str) -> Result<(), &'static str> {
    let mut seen = Vec::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"").ok_or("a label has no value")?;
        if !is_name(name, "") || seen.contains(&name) {
            return Err("not a label, or twice");
        }
        seen.push(name);
        let end = end_of_value(rest).ok_or("a value has no end")?;
        unescape(&rest[..end], true)?;
        text = &rest[end + 1..];
        if let Some(next) = text.strip_prefix(',') {
            text = next;
        } else if !text.is_empty() {
            return Err("something behind a value");
        }
    }
    Ok(())
}

/// Where the quotation mark is that is not escaped.
fn end_of_value(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let is_end = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        is_end.then_some(at)
    })
}

fn unescape(text: &str, in_label: bool) -> Result<(), &'static str> {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\\' {
            match chars.next() {
                Some('\\' | 'n') => {}
                Some('"') if in_label => {}
                _ => return Err("not an escape"),
            }
        }
    }
    Ok(())
}

fn is_name(text: &str, also: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || also.contains(c);
    text.chars().all(fits) && text.chars().next().is_some_and(|c| !c.is_ascii_digit())
}
