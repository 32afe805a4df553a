//! The JSON of the commands against the forms that docs/COMMANDS.md gives.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;
use zonal_tests::is_zonal;

use crate::blocks::root;
use crate::scratch::Scratch;

/// Commands and the keys of their forms: `| command | `{"key", ...}`... |`.
fn documented() -> Vec<(String, BTreeSet<String>)> {
    let text = fs::read_to_string(root().join("docs/COMMANDS.md")).unwrap_or_default();
    let rows = text.lines().filter_map(|line| {
        let mut literals = line.strip_prefix("| `")?.split('`');
        let (command, form) = (literals.next()?, literals.nth(1)?);
        let keys = form.strip_prefix('{')?.split('"').skip(1).step_by(2).map(str::to_owned);
        Some((command.to_owned(), keys.collect()))
    });
    rows.collect()
}

/// All keys but those that are numbers: of nodes.
fn keys(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                if key.parse::<u64>().is_err() {
                    found.insert(key.clone());
                }
                keys(value, found);
            }
        }
        Value::Array(array) => array.iter().for_each(|value| keys(value, found)),
        _ => {}
    }
}

#[test]
fn json_has_the_form_that_is_documented() {
    if !is_zonal() {
        return;
    }
    let scratch = Scratch::new();
    let server = scratch.server();
    let documented = documented();
    let commands: Vec<&str> = documented.iter().map(|(command, _)| command.as_str()).collect();
    let known = ["top", "maps", "doctor", "topology", "profile", "symbolize", "run"];
    assert_eq!(commands, known);
    for (command, expected) in &documented {
        let line = match command.as_str() {
            "top" => "zonal top --json".into(),
            "profile" => "zonal profile --json $PID --seconds 1 -o profile.pb.gz".into(),
            "symbolize" => "zonal run --leaks --conf profile_rate:4K -- python3 -c pass 2>&1 |
                            zonal symbolize --json"
                .into(),
            "run" => "zonal run --json -- true 2>&1".into(),
            _ => format!("zonal {command} --json $PID"),
        };
        let outcome = scratch.run(&line, Some(&server)).success();
        let report: Value = serde_json::from_str(&outcome.stdout)
            .unwrap_or_else(|e| panic!("{command}: {e}: {}", outcome.stdout));
        let mut found = BTreeSet::new();
        keys(&report, &mut found);
        // Version 1 of something: the number is a promise.
        assert!(report["version"] == 1 || report["schema_version"] == 1, "{command}");
        found.remove("version");
        let mut expected = expected.clone();
        expected.remove("version");
        assert_eq!(found, expected, "zonal {command} --json");
    }
}
