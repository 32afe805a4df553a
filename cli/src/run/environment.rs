//! The two variables that carry zonal into the program: `LD_PRELOAD` and `ZONAL_CONF`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use anyhow::{Result, bail};
use zonal_settings::{KEYS, Wrong};

const LD_PRELOAD: &str = "LD_PRELOAD";
const ZONAL_CONF: &str = "ZONAL_CONF";

/// The environment `variables` with the library preloaded and `added` settings merged in, and the
/// `defaults`, key and value, for which there is no setting yet.
pub(super) fn with_zonal(
    variables: impl Iterator<Item = (OsString, OsString)>,
    library: &Path,
    added: &[OsString],
    defaults: &[(&str, &str)],
) -> Result<Vec<(OsString, OsString)>> {
    let (mut preload, mut conf) = (OsString::new(), OsString::new());
    let mut kept = Vec::new();
    for (name, value) in variables {
        match name.to_str() {
            Some(LD_PRELOAD) => preload = value,
            Some(ZONAL_CONF) => conf = value,
            _ => kept.push((name, value)),
        }
    }
    kept.push((LD_PRELOAD.into(), merge_preload(library, &preload)));
    let conf = merge_conf(&conf, added, defaults)?;
    if !conf.is_empty() {
        kept.push((ZONAL_CONF.into(), conf));
    }
    Ok(kept)
}

/// zonal comes first, because the first library that defines `malloc` serves it. All other entries
/// stay; another copy of zonal goes, so that a nested `zonal run` does not load two.
fn merge_preload(library: &Path, existing: &OsStr) -> OsString {
    let mut merged = library.as_os_str().as_bytes().to_vec();
    for entry in existing.as_bytes().split(|byte| matches!(byte, b' ' | b':')) {
        let is_zonal = Path::new(OsStr::from_bytes(entry)).file_name() == library.file_name();
        if !entry.is_empty() && !is_zonal {
            merged.push(b':');
            merged.extend_from_slice(entry);
        }
    }
    OsString::from_vec(merged)
}

/// Settings in order; one of `added` takes the place of every earlier one with the same key.
fn merge_conf(existing: &OsStr, added: &[OsString], defaults: &[(&str, &str)]) -> Result<OsString> {
    let mut items: Vec<&[u8]> = settings(existing).collect();
    for item in added.iter().flat_map(|text| settings(text)) {
        refuse_if_wrong(item)?;
        let Some(key) = key(item) else { continue };
        items.retain(|other| self::key(other) != Some(key));
        items.push(item);
    }
    let mut conf = items.join(&b',');
    for (default, value) in defaults {
        if !items.iter().any(|item| key(item) == Some(default.as_bytes())) {
            if !conf.is_empty() {
                conf.push(b',');
            }
            conf.extend(format!("{default}:{value}").bytes());
        }
    }
    Ok(OsString::from_vec(conf))
}

/// What the library would leave out with one line must not start a program that runs without it.
fn refuse_if_wrong(item: &[u8]) -> Result<()> {
    let mut first = None;
    zonal_settings::check(item, |wrong| first = first.or(Some(wrong)));
    let Some(wrong) = first else { return Ok(()) };
    if let Wrong::UnknownKey(_) = wrong {
        let keys = KEYS.map(|(key, _)| key).join(", ");
        bail!("--conf: {wrong}: {keys}");
    }
    bail!("--conf: {wrong}");
}

fn settings(text: &OsStr) -> impl Iterator<Item = &[u8]> {
    text.as_bytes().split(|&byte| byte == b',').filter(|item| !item.is_empty())
}

fn key(setting: &[u8]) -> Option<&[u8]> {
    let end = setting.iter().position(|&byte| byte == b':')?;
    setting.get(..end).filter(|key| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(existing: &str, added: &[&str]) -> Result<String> {
        let added: Vec<OsString> = added.iter().map(OsString::from).collect();
        Ok(merge_conf(existing.as_ref(), &added, &[("stats", "live")])?.into_string().unwrap())
    }

    #[test]
    fn added_settings_replace_those_of_the_environment() {
        assert_eq!(
            conf("thp:never,limit:1G", &["limit:2G"]).unwrap(),
            "thp:never,limit:2G,stats:live"
        );
        assert_eq!(conf("limit:1G,limit:2G", &["limit:3G"]).unwrap(), "limit:3G,stats:live");
        assert_eq!(
            conf("", &["limit:1G,thp:auto", "limit:2G"]).unwrap(),
            "thp:auto,limit:2G,stats:live"
        );
        assert_eq!(conf("", &[]).unwrap(), "stats:live");
        assert_eq!(conf("stats:off", &[]).unwrap(), "stats:off");
    }

    #[test]
    fn what_the_environment_holds_passes_unjudged() {
        assert_eq!(conf("odd,,thp:auto,", &["stats:exit"]).unwrap(), "odd,thp:auto,stats:exit");
    }

    #[test]
    fn defaults_stand_back() {
        let with = |existing: &str| {
            let merged = merge_conf(existing.as_ref(), &["thp:auto".into()], &[("limit", "1G")]);
            merged.unwrap().into_string().unwrap()
        };
        assert_eq!(with(""), "thp:auto,limit:1G");
        assert_eq!(with("limit:2G"), "limit:2G,thp:auto");
    }

    #[test]
    fn an_added_setting_is_one_that_the_library_understands() {
        for bad in ["stats", ":exit", "limit=1G", "foo:bar", "limit:2GB", " stats:off"] {
            let message = conf("", &[bad]).unwrap_err().to_string();
            assert!(message.contains(bad), "{message}");
        }
        let message = conf("", &["foo:bar"]).unwrap_err().to_string();
        assert!(message.contains("soft_limit, node_limit"), "{message}");
        // Only the first colon separates: values such as paths may hold more.
        assert_eq!(conf("", &["stats_file:/a:b"]).unwrap(), "stats_file:/a:b,stats:live");
    }

    #[test]
    fn preload_puts_zonal_first_and_keeps_the_rest() {
        let merge = |old: &str| {
            merge_preload(Path::new("/x/libzonal.so"), old.as_ref()).into_string().unwrap()
        };
        assert_eq!(merge(""), "/x/libzonal.so");
        assert_eq!(merge("libsegfault.so /y/b.so"), "/x/libzonal.so:libsegfault.so:/y/b.so");
        assert_eq!(merge("/a.so:/old/libzonal.so"), "/x/libzonal.so:/a.so");
    }
}
