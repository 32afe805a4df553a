//! Tools that work with several threads on one thing.

use std::fs;
use std::path::Path;

use zonal_tests::{Program, have, skipped};

use super::{directory, text};

#[test]
#[ignore = "make test-programs"]
fn imagemagick() {
    // The real program, not a script that happens to have its name.
    let Some(convert) =
        ["/usr/bin/convert-im6.q16", "/usr/bin/convert"].iter().find(|p| Path::new(p).exists())
    else {
        return skipped("convert is not installed (package imagemagick)");
    };
    let steps = [
        "-seed",
        "7",
        "-size",
        "900x700",
        "plasma:red-blue",
        "-resize",
        "130%",
        "-blur",
        "0x4",
        "-rotate",
        "17",
        "-colors",
        "64",
        "-unsharp",
        "0x2",
        "-depth",
        "8",
        "ppm:-",
    ];
    let dir = directory();
    let picture = |program: Program, name: &str| {
        let to = format!("ppm:{}", dir.path().join(name).display());
        let steps: Vec<&str> =
            steps[..steps.len() - 1].iter().copied().chain([to.as_str()]).collect();
        program.args(steps).env("MAGICK_THREAD_LIMIT", "4").timeout(300).run().success();
        fs::read(dir.path().join(name)).unwrap()
    };
    let expected = picture(Program::plain(convert), "plain.ppm");
    assert!(picture(Program::new(convert), "zonal.ppm") == expected, "another picture on zonal");
}

#[test]
#[ignore = "make test-programs"]
fn compressors_with_threads() {
    let dir = directory();
    let plain = text(400_000);
    fs::write(dir.path().join("text"), &plain).unwrap();
    for (name, package, pack) in [
        ("xz", "xz-utils", &["-T4", "-2", "--block-size=1MiB"][..]),
        ("zstd", "zstd", &["-T4", "-9"]),
    ] {
        if !have(name, package) {
            continue;
        }
        let packed = dir.path().join("packed");
        Program::new("sh")
            .args(["-c", "\"$@\" -c text > packed", "sh", name])
            .args(pack)
            .dir(dir.path())
            .run()
            .success();
        assert!(fs::metadata(&packed).unwrap().len() > 10_000);
        Program::new("sh")
            .args(["-c", "exec \"$0\" -dc < packed", name])
            .dir(dir.path())
            .run()
            .success()
            .stdout_is(&plain);
    }
}
