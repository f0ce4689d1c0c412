//! The heartbeat, the webhook, and silence.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Shop;
use crate::receiver::{Manner, Receiver};

#[test]
fn the_heartbeat_gets_the_beginning_and_the_exit_code() {
    let shop = Shop::new();
    let receiver = Receiver::start(Manner::Answer(200));
    shop.audit(&format!("--ping-url {}", receiver.url)).exits(0);
    shop.breaks(&[7]);
    shop.audit(&format!("--ping-url {}/?create=1 --notify-on never", receiver.url))
        .exits(2);
    let dead = "audit checks --url postgresql://postgres@127.0.0.1:1/postgres --state state.sqlite";
    shop.sandbox
        .run(&format!("{dead} --ping-url {}", receiver.url))
        .exits(69);
    let lines = receiver.lines();
    assert_eq!(
        lines,
        [
            "POST /geheim/start",
            "POST /geheim/0",
            "POST /geheim/start?create=1",
            "POST /geheim/2?create=1",
            "POST /geheim/start",
            "POST /geheim/69",
        ]
    );
    let requests = receiver.requests();
    assert!(
        requests[3].body.contains("FAILED: 1 new, 1 open, 0 fixed"),
        "{}",
        requests[3].body
    );
    assert!(
        requests[3].body.contains("new: shop.stock id=7"),
        "{}",
        requests[3].body
    );
    assert!(requests[5].body.contains("cannot connect"), "{}", requests[5].body);
}

#[test]
fn an_interrupted_run_pings_its_exit_code() {
    let shop = Shop::new();
    let receiver = Receiver::start(Manner::Answer(200));
    let holder = shop.another();
    holder.exec("begin; lock table item");
    let run = shop.sandbox.start(&shop.words(&format!("--ping-url {}", receiver.url)));
    let waits = "(select count(*) from pg_stat_activity where application_name = 'db-race/verify' and wait_event_type = 'Lock') > 0";
    crate::common::wait_until("the check waits", Duration::from_secs(20), || shop.server.is(waits));
    run.signal(nix::sys::signal::Signal::SIGINT);
    run.wait().exits(130);
    assert_eq!(receiver.lines(), ["POST /geheim/start", "POST /geheim/130"]);
}

#[test]
fn the_webhook_gets_what_changed_and_only_then() {
    let shop = Shop::new();
    let receiver = Receiver::start(Manner::Answer(200));
    let audit = |flags: &str| {
        let mut command = shop.sandbox.command(&shop.words(flags));
        command.env("DB_RACE_WEBHOOK", &receiver.url);
        shop.sandbox.run_command(command)
    };
    audit("");
    assert_eq!(receiver.lines(), [""; 0], "all held before, too");
    shop.breaks(&[1, 2]);
    audit("").exits(2);
    audit("").exits(2);
    audit("--notify-on violation").exits(2);
    shop.breaks(&[2]);
    audit("--notify-on never").exits(2);
    shop.breaks(&[]);
    audit("").exits(0);
    let bodies: Vec<Value> = receiver
        .requests()
        .iter()
        .map(|r| serde_json::from_str(&r.body).unwrap())
        .collect();
    assert_eq!(bodies.len(), 3);
    let first = &bodies[0];
    assert!(
        receiver.requests()[0]
            .head
            .to_lowercase()
            .contains("content-type: application/json")
    );
    assert_eq!(first["schema"], "db-race/audit-webhook/1");
    let text = first["text"].as_str().unwrap();
    assert!(
        text.contains("FAILED: 2 new") && text.contains("new: shop.stock id=1"),
        "{text}"
    );
    assert_eq!(
        (&first["exit_code"], &first["outcome"], &first["changed"]),
        (&2.into(), &"failed".into(), &true.into())
    );
    assert_eq!(first["new"][1]["key"]["id"], "2");
    assert_eq!(
        (&bodies[1]["changed"], &bodies[1]["counts"]["open"]),
        (&false.into(), &2.into())
    );
    assert_eq!(
        (&bodies[2]["fixed"][0]["key"]["id"], &bodies[2]["outcome"]),
        (&"2".into(), &"passed".into())
    );
}

/// Whatever the receivers do, the verdict stands, it ends soon, and their addresses are secret.
fn a_receiver_that_fails(manner: Manner, told: &str) {
    let shop = Shop::new();
    shop.breaks(&[1]);
    let receiver = Receiver::start(manner);
    let began = Instant::now();
    let flags = format!(
        "--ping-url {0} --webhook {0} --notify-on always --format json",
        receiver.url
    );
    let run = shop.audit(&flags).exits(2);
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    let pings = run
        .stderr
        .matches("warning: the ping was not delivered: http://127.0.0.1:")
        .count();
    assert_eq!(pings, 2, "{run}");
    assert!(
        run.stderr.contains("warning: the webhook was not delivered") && run.stderr.contains(told),
        "{run}"
    );
    assert!(
        !run.stderr.contains("geheim") && !run.stdout.contains("geheim"),
        "{run}"
    );
    run.json();
    let state = std::fs::read(shop.sandbox.dir().join("state.sqlite")).unwrap();
    assert!(!String::from_utf8_lossy(&state).contains("geheim"));
}

#[test]
fn a_receiver_that_refuses_changes_nothing() {
    a_receiver_that_fails(Manner::Answer(404), "it answered 404");
}

#[test]
fn a_receiver_that_fails_changes_nothing() {
    a_receiver_that_fails(Manner::Answer(500), "it answered 500");
}

#[test]
fn a_receiver_that_hangs_up_changes_nothing() {
    a_receiver_that_fails(Manner::Close, "was not delivered");
}

#[test]
fn a_receiver_that_says_nothing_changes_nothing() {
    a_receiver_that_fails(Manner::Hang, "no answer within");
}

#[test]
fn an_address_that_is_none_is_not_repeated() {
    let shop = Shop::new();
    let mut command = shop.sandbox.command(&shop.words(""));
    command.env("DB_RACE_PING_URL", "ftp://geheim");
    let wrong = shop.sandbox.run_command(command).exits(64);
    assert!(
        wrong.stderr.contains("expected an address like https://host/path"),
        "{wrong}"
    );
    assert!(!wrong.stderr.contains("geheim"), "{wrong}");
}

#[test]
fn what_is_refused_for_now_is_sent_again() {
    let shop = Shop::new();
    let receiver = Receiver::start(Manner::AnswerAfter(2));
    let run = shop.audit(&format!("--ping-url {}", receiver.url)).exits(0);
    assert_eq!(run.stderr, "");
    let (start, end) = ("POST /geheim/start", "POST /geheim/0");
    assert_eq!(receiver.lines(), [start, start, start, end]);
}

#[test]
fn cron_is_told_when_something_changed_and_sees_nothing_otherwise() {
    let shop = Shop::new();
    let silent = |code: i32| {
        let run = shop.audit("--notify-on change").exits(code);
        assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""));
    };
    silent(0);
    silent(0);
    shop.breaks(&[3]);
    shop.audit("--notify-on change").exits(2).shows(&["new: 1", "id=3"]);
    silent(2);
    shop.check("stock", "", "select id, 1 / 0 from item where id = 7");
    shop.audit("--notify-on change")
        .exits(3)
        .shows(&["could not decide", "not looked at: 1"]);
    silent(3);
    shop.check("stock", "", crate::STOCK);
    shop.audit("--notify-on change").exits(2).shows(&["still open: 1"]);
    shop.breaks(&[]);
    shop.audit("--notify-on change").exits(0).shows(&["fixed: 1", "PASSED"]);
    silent(0);
    let held = shop.audit("--notify-on violation").exits(0);
    assert_eq!((held.stdout.as_str(), held.stderr.as_str()), ("", ""));
}

#[test]
fn a_run_that_has_looked_at_nothing_is_told_once_and_so_is_its_end() {
    let shop = Shop::new();
    let receiver = Receiver::start(Manner::Answer(200));
    let audit = |code: i32| {
        let flags = format!("--notify-on change --webhook {}", receiver.url);
        shop.audit(&flags).exits(code)
    };
    let silent = |code: i32| assert_eq!(audit(code).stdout, "");
    silent(0);
    shop.check("stock", "-- run_on = \"standby\"\n", crate::STOCK);
    let why = "no data: no check was run, the only one was skipped (shop.stock: ";
    audit(3).shows(&["INCONCLUSIVE  0 checks, 1 skipped,", why]);
    silent(3);
    shop.check("stock", "", crate::STOCK);
    audit(0).shows(&["PASSED  1 check on"]);
    silent(0);
    let bodies = receiver.requests();
    let bodies: Vec<Value> = bodies.iter().map(|r| serde_json::from_str(&r.body).unwrap()).collect();
    let outcomes: Vec<&Value> = bodies.iter().map(|body| &body["outcome"]).collect();
    assert_eq!(outcomes, ["inconclusive", "passed"]);
    let problems = bodies[0]["problems"].as_array().unwrap();
    assert!(
        problems.len() == 1 && problems[0].as_str().unwrap().starts_with(why),
        "{problems:?}"
    );
}
