//! Where `libzonal.so` is.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};

const NAME: &str = "libzonal.so";

/// The library's absolute path: `$ZONAL_LIB` if set, else the first place that has it.
pub(crate) fn find() -> Result<PathBuf> {
    let found = match env::var_os("ZONAL_LIB").filter(|path| !path.is_empty()) {
        // A path that the user named is never silently replaced by another one.
        Some(path) => PathBuf::from(path),
        None => search(&places(own_folder().as_deref()))?,
    };
    let path = found.canonicalize().with_context(|| found.display().to_string())?;
    // LD_PRELOAD separates its entries by these and has no way to quote them.
    if path.as_os_str().as_encoded_bytes().iter().any(|byte| matches!(byte, b' ' | b':')) {
        bail!("{}: LD_PRELOAD cannot name a path with a space or a colon", path.display());
    }
    Ok(path)
}

fn search(places: &[PathBuf]) -> Result<PathBuf> {
    let paths = places.iter().map(|folder| folder.join(NAME));
    paths.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        let looked: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
        let looked = looked.join(", ");
        anyhow!("{NAME} not found; set ZONAL_LIB to its path. Looked in: {looked}")
    })
}

/// Folders to look in, nearest first.
fn places(own: Option<&Path>) -> Vec<PathBuf> {
    let mut places = Vec::new();
    if let Some(own) = own {
        places.push(own.to_path_buf());
        if let Some(above) = own.parent() {
            places.push(above.join("lib"));
            // A debug build of the command with a release build of the library, or the reverse.
            if matches!(own.file_name().and_then(|name| name.to_str()), Some("debug" | "release")) {
                places.extend(["release", "debug"].map(|profile| above.join(profile)));
            }
        }
    }
    let multiarch = format!("{}-linux-gnu", env::consts::ARCH);
    for root in ["/usr/local/lib", "/usr/lib"] {
        places.extend([PathBuf::from(root), Path::new(root).join(&multiarch)]);
    }
    places.push("/usr/lib64".into());
    places
}

/// The folder of this command. Without `/proc` only a path in `argv[0]` can tell.
fn own_folder() -> Option<PathBuf> {
    let exe = env::current_exe().ok().or_else(|| {
        let name = PathBuf::from(env::args_os().next()?);
        if name.components().count() > 1 { name.canonicalize().ok() } else { None }
    })?;
    exe.parent().map(Path::to_path_buf)
}
