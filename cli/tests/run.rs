//! `zonal run` from the outside. An empty library stands in for zonal: what the allocator does in a
//! program is tested elsewhere, here it is what the command hands over and what it leaves alone.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod place;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use place::{Place, ZONAL, stderr, stdout};
use serde_json::json;
use zonal_tests::{install, install_script};

impl Place {
    fn executable(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        install_script(text, &path);
        path
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.zonal().arg("run").args(arguments).output().unwrap()
    }
}

#[track_caller]
fn assert_silent_success(output: &Output) {
    assert!(output.status.success(), "{output:?}");
    assert_eq!(stderr(output), "");
}

const PRINT: &str = r#"printf '%s|%s' "$LD_PRELOAD" "${ZONAL_CONF-unset}""#;

#[test]
fn preloads_the_library_and_asks_for_a_live_page() {
    let place = Place::new();
    let output = place.run(&["--", "sh", "-c", PRINT]);
    assert_silent_success(&output);
    assert_eq!(
        stdout(&output),
        format!("{}|stats:live,profile_signal:SIGRTMAX-7", place.library())
    );
}

#[test]
fn merges_what_the_environment_already_holds() {
    let place = Place::new();
    let other = place.compile("", &["-shared", "-nostdlib"], "other.so");
    let output = place
        .zonal()
        .env("LD_PRELOAD", &other)
        .env("ZONAL_CONF", "limit:1G,thp:never")
        .args(["run", "--conf", "limit:2G", "--stats", "sh", "-c", PRINT])
        .output()
        .unwrap();
    assert_silent_success(&output);
    let expected = format!(
        "{}:{}|thp:never,limit:2G,stats:exit+live,profile_signal:SIGRTMAX-7",
        place.library(),
        other.display()
    );
    assert_eq!(stdout(&output), expected);
}

#[test]
fn nested_runs_load_the_library_once() {
    let place = Place::new();
    let output = place.run(&["--", ZONAL, "run", "--", "sh", "-c", PRINT]);
    assert_silent_success(&output);
    assert_eq!(
        stdout(&output),
        format!("{}|stats:live,profile_signal:SIGRTMAX-7", place.library())
    );
}

#[test]
fn finds_the_library_beside_itself_and_in_lib() {
    let place = Place::new();
    for (folder, library) in [("bin", "lib"), ("flat", "flat")] {
        for folder in [folder, library] {
            fs::create_dir_all(place.path(folder)).unwrap();
        }
        let command = place.path(folder).join("zonal");
        install(ZONAL.as_ref(), &command);
        symlink(place.path("libzonal.so"), place.path(library).join("libzonal.so")).unwrap();
        let output = Command::new(command)
            .env_remove("ZONAL_LIB")
            .args(["run", "--", "sh", "-c", "echo $LD_PRELOAD"])
            .output()
            .unwrap();
        assert_silent_success(&output);
        assert_eq!(stdout(&output), place.library());
    }
}

#[test]
fn becomes_the_program() {
    let place = Place::new();
    let child = place
        .zonal()
        .args(["run", "--", "sh", "-c", "echo $$; exit 7"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id().to_string();
    let output = child.wait_with_output().unwrap();
    assert_eq!((stdout(&output), output.status.code()), (pid.as_str(), Some(7)));

    let output = place.run(&["--", "sh", "-c", "kill -TERM $$"]);
    assert_eq!(output.status.signal(), Some(15));
}

#[test]
fn leaves_arguments_descriptors_and_signals_alone() {
    let place = Place::new();
    let output = place.run(&["--", "printf", "%s;", "--conf", "a b", "", "--"]);
    assert_eq!(stdout(&output), "--conf;a b;;--;");

    // A Rust program of the usual kind would open /dev/null in place of the closed descriptor and
    // hand over a default SIGPIPE.
    let script = format!(
        "trap '' PIPE; exec 0<&-; {ZONAL} run -- sh -c \
         'grep SigIgn /proc/$$/status; test -e /proc/$$/fd/0 || echo closed'"
    );
    let output =
        Command::new("sh").args(["-c", &script]).env("ZONAL_LIB", place.library()).output();
    let output = output.unwrap();
    let mut lines = stdout(&output).lines();
    let ignored = lines.next().unwrap().split_whitespace().nth(1).unwrap();
    let sigpipe = 1 << (13 - 1);
    assert_ne!(u64::from_str_radix(ignored, 16).unwrap() & sigpipe, 0, "SIGPIPE is not ignored");
    assert_eq!(lines.next(), Some("closed"));
}

#[test]
fn runs_a_script_without_interpreter_line_in_the_shell() {
    let place = Place::new();
    let script = place.executable("script", "echo from the shell\n");
    let output = place.run(&["--", script.to_str().unwrap()]);
    assert_silent_success(&output);
    assert_eq!(stdout(&output), "from the shell");
}

#[track_caller]
fn assert_fails(output: &Output, status: i32, message: &str) {
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    assert!(stderr(output).contains(message), "{output:?}");
}

#[test]
fn a_program_does_not_start_with_settings_that_have_no_effect() {
    let place = Place::new();
    for (conf, message) in [("foo:bar", "stats, "), ("limit:2GB", "512M"), ("stats:on", "live")] {
        let output = place.run(&["--conf", conf, "--", "echo", "started"]);
        assert_fails(&output, 125, message);
        assert_eq!(stdout(&output), "");
    }
}

#[test]
fn failures_have_the_statuses_of_env() {
    let place = Place::new();
    assert_fails(&place.run(&["--", "no-such-program"]), 127, "no-such-program: program not found");
    assert_fails(&place.run(&["--", "/no/such"]), 127, "/no/such: program not found");
    assert_fails(&place.run(&["--", "/"]), 126, "/: ");
    let plain = place.path("plain");
    fs::write(&plain, "text").unwrap();
    assert_fails(&place.run(&["--", plain.to_str().unwrap()]), 126, "denied");
    let output =
        place.zonal().env("PATH", place.folder.path()).args(["run", "plain"]).output().unwrap();
    assert_fails(&output, 126, "plain: found, but not executable");

    assert_fails(&place.run(&[]), 125, "PROGRAM");
    assert_fails(&place.run(&["--conf", "stats", "true"]), 125, "no ':' in 'stats'");
    assert_fails(&place.run(&["--nonsense", "true"]), 125, "--nonsense");
}

#[test]
fn a_library_that_cannot_serve_is_an_error() {
    let place = Place::new();
    let with =
        |path: &Path| place.zonal().env("ZONAL_LIB", path).args(["run", "true"]).output().unwrap();
    assert_fails(&with(&place.path("missing.so")), 125, "missing.so");
    let text = place.executable("text.so", "no library");
    assert_fails(&with(&text), 125, "not an ELF file");
    fs::create_dir(place.path("a b")).unwrap();
    let spaced = place.path("a b").join("libzonal.so");
    fs::copy(place.path("libzonal.so"), &spaced).unwrap();
    assert_fails(&with(&spaced), 125, "a space or a colon");
}

#[test]
fn warns_where_a_preload_has_no_effect() {
    let place = Place::new();
    let fixed = place.compile("int main(void) { return 3; }", &["-static"], "fixed");
    let fixed = fixed.to_str().unwrap();
    let output = place.run(&["--", fixed]);
    assert_fails(&output, 3, "fixed: is statically linked: a preload has no effect");
    assert_eq!(stderr(&place.run(&["--quiet", "--", fixed])), "");

    let output = place.run(&["--json", "--", fixed]);
    let line: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!((&line["program"], &line["library"]), (&json!(fixed), &json!(place.library())));
    assert!(line["warnings"][0].as_str().unwrap().contains("statically linked"), "{line}");
    let output = place.run(&["--json", "--", "sh", "-c", r#"printf '%s %s' $$ "$ZONAL_CONF""#]);
    let line: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    let expected = format!("{} stats_format:json,", line["pid"]);
    assert!(stdout(&output).starts_with(&expected), "{output:?}");

    let script = place.executable("script", &format!("#!{fixed} -x\n"));
    let output = place.run(&["--", script.to_str().unwrap()]);
    assert_fails(&output, 3, &format!("its interpreter {fixed} is statically linked"));
}

#[test]
fn warns_about_setuid_programs() {
    let place = Place::new();
    // Only root can give a file away; anybody else is warned about root's.
    let program = place.path("setuid");
    install("/bin/true".as_ref(), &program);
    let program = if fs::metadata(&program).unwrap().uid() == 0 {
        chown(&program, Some(65534), None).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
        program
    } else {
        "/usr/bin/passwd".into()
    };
    let output = place.run(&["--", program.to_str().unwrap(), "--help"]);
    assert!(stderr(&output).contains("is setuid: the loader ignores the preload"), "{output:?}");
}
