//! Values go from keys and earlier results to parameters as they are, whatever their type.

use crate::common::Sandbox;

/// Columns of the table, with a value that is easily spoiled on the way.
const VALUES: [(&str, &str, &str); 18] = [
    ("small", "int2", "-32768"),
    ("big", "int8", "9223372036854775807"),
    (
        "quotes",
        "text",
        r#"E'it''s "quoted" \\ :name $1 -- /* é€😀 */\n\ttwo lines'"#,
    ),
    ("empty", "text", "''"),
    ("looks_null", "text", "'NULL'"),
    ("is_null", "text", "null"),
    ("padded", "char(5)", "'ab'"),
    ("day", "date", "'2030-06-01'"),
    ("long_ago", "date", "'0044-03-15 BC'"),
    ("never", "timestamptz", "'infinity'"),
    ("moment", "timestamptz", "'2030-03-31 01:59:59.123456+00'"),
    ("wall_clock", "timestamp", "'1999-12-31 23:59:59.999999'"),
    ("price", "numeric", "-12345678901234567890.000100"),
    ("half", "float8", "0.1 + 0.2"),
    ("yes", "boolean", "true"),
    ("id", "uuid", "'0a1b2c3d-4e5f-6789-abcd-ef0123456789'"),
    ("document", "jsonb", r#"'{"a": ["it''s", null, 1.50]}'"#),
    ("state", "mood", "'so-so'"),
];

#[test]
fn key_values_and_captured_results_are_bound_as_they_are() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    // settings of an unusual server, by which dates could be misread
    server.exec(
        "alter database postgres set datestyle = 'SQL, DMY';
         alter database postgres set timezone = 'America/New_York';
         create type mood as enum ('fine', 'so-so')",
    );
    let columns: Vec<String> = VALUES.iter().map(|(name, ty, _)| format!("{name} {ty}")).collect();
    let names: Vec<&str> = VALUES.iter().map(|(name, ..)| *name).collect();
    let values: Vec<&str> = VALUES.iter().map(|(.., value)| *value).collect();
    let parameters: Vec<String> = names.iter().map(|name| format!(":{name}")).collect();
    let (names, parameters) = (names.join(", "), parameters.join(", "));
    server.exec(&format!(
        "create table given ({columns}); insert into given values ({values});
         create table from_key ({columns}); create table from_result ({columns})",
        columns = columns.join(", "),
        values = values.join(", "),
    ));
    let keys = format!("[keys]\nsql = \"select {names} from given\"");
    let key_step = format!("{{ name = \"key\", sql = \"insert into from_key values ({parameters})\" }}");
    let capture = format!("{{ name = \"read\", sql = \"select {names} from given\" }}");
    let result_step = format!("{{ name = \"result\", sql = \"insert into from_result values ({parameters})\" }}");
    for (table, keys, steps) in [
        ("from_key", keys.as_str(), key_step),
        ("from_result", "", format!("{capture}, {result_step}")),
    ] {
        let text = format!(
            "title = \"t\"\n{keys}\n[[sessions]]\nname = \"a\"\nsessions = 2\ngate = \"start\"\nsteps = [{steps}]\n"
        );
        let file = sandbox.write(&format!("{table}.toml"), &text);
        sandbox
            .run(&format!("contend {file} --url {} --no-control", server.url()))
            .exits(0);
        assert_eq!(server.value(&format!("select count(*) from {table}")), "2");
        for (column, ..) in VALUES {
            let is_same = format!("bool_and(t.{column} is not distinct from g.{column}) from {table} t, given g");
            let shown = server.rows(&format!("select t.{column}, g.{column} from {table} t, given g"));
            assert!(server.is(&is_same), "{table}.{column}: {shown:?}");
        }
    }
}

#[test]
fn an_array_can_be_a_key_and_must_be_cast_to_be_captured() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec("create table t (list int[])");
    let scenario = |steps: &str| {
        format!(
            "title = \"t\"\n[keys]\nsql = \"select array[1, 2] as list\"\n[[sessions]]\nname = \"a\"\nsessions = 2\n\
             gate = \"start\"\nsteps = [{steps}]\n"
        )
    };
    let insert = "{ name = \"insert\", sql = \"insert into t values (:list)\" }";
    let file = sandbox.write("key.toml", &scenario(insert));
    sandbox
        .run(&format!("contend {file} --url {} --no-control", server.url()))
        .exits(0);
    assert_eq!(server.value("select min(list) from t"), "{1,2}");

    let steps = format!("{{ name = \"read\", sql = \"select array[3, 4] as list\" }}, {insert}");
    let file = sandbox.write("captured.toml", &scenario(&steps));
    sandbox
        .run(&format!("contend {file} --url {}", server.url()))
        .exits(64)
        .complains(&["captured.toml:8:", ":list", "can't be captured", "::text"]);
}

#[test]
fn a_step_that_needs_a_row_which_was_not_returned_is_an_error_that_says_so() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let file = sandbox.write(
        "none.toml",
        r#"
        title = "t"
        [[sessions]]
        name     = "a"
        sessions = 2
        gate     = "start"
        steps    = [
          { name = "find", sql = "select 1 as found where false" },
          { name = "use", sql = "select :found::int" },
        ]
        "#,
    );
    let report = sandbox
        .run(&format!("contend {file} --url {} --format json", server.url()))
        .exits(2)
        .json();
    let message = report["race"]["reasons"][0]["message"].as_str().unwrap();
    assert!(message.contains("`find`") && message.contains("no row"), "{message}");
}
