//! Against the real thing: a PostgreSQL that asks us for passwords, and its `psql`, whom we ask.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use pgroute::auth::scram::{Binding, Client, Credential, MECHANISM, Secret, Server};
use pgroute::auth::{Stored, md5};
use pgroute::session::{Ledger, Owner, Question};
use pgroute::wire::backend::{self, Authentication, Fields, TransactionStatus};
use pgroute::wire::frontend::{self, SaslInitial};
use pgroute::wire::startup::{self, Opening, Startup};
use pgroute::wire::write::{Report, Severity};
use pgroute::wire::{Look, Piece, Splitter, write};
use testkit::{Postgres, PostgresOptions};

const TIMEOUT: Duration = Duration::from_secs(20);

/// A connection that hands over whole messages.
struct Wire {
    stream: TcpStream,
    bytes: Vec<u8>,
    splitter: Splitter,
}

impl Wire {
    fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        Self { stream, bytes: Vec::new(), splitter: Splitter::default() }
    }

    fn more(&mut self) {
        let mut buffer = [0; 4096];
        let count = self.stream.read(&mut buffer).unwrap();
        assert!(count > 0, "the other side has closed the connection");
        self.bytes.extend(&buffer[..count]);
    }

    fn message(&mut self, look: impl Fn(u8) -> Look) -> Vec<u8> {
        loop {
            match self.splitter.next(&self.bytes, &look).unwrap() {
                Piece::Message { len, .. } => return self.bytes.drain(..len).collect(),
                Piece::Wait { .. } => self.more(),
                other => panic!("{other:?}"),
            }
        }
    }

    fn opening(&mut self) -> Opening {
        loop {
            if let Some((opening, len)) = startup::read(&self.bytes).unwrap() {
                self.bytes.drain(..len);
                return opening;
            }
            self.more();
        }
    }

    fn send(&mut self, build: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        build(&mut out);
        self.stream.write_all(&out).unwrap();
    }
}

/// Logs in, up to the first `ReadyForQuery`; the text of the error if that fails.
fn log_in(port: u16, user: &str, credential: Option<&Credential>, stored: &Stored) -> Result<Wire, String> {
    let mut wire = Wire::new(TcpStream::connect(("127.0.0.1", port)).unwrap());
    let session = Startup { user: user.to_owned(), database: "postgres".to_owned(), ..Startup::default() };
    wire.send(|out| write::startup(out, &session));
    let (mut awaiting_first, mut awaiting_final) = (None, None);
    loop {
        let message = wire.message(backend::look_at_beginning);
        match message[0] {
            backend::tag::AUTHENTICATION => match Authentication::read(&message).unwrap() {
                Authentication::Ok => {}
                Authentication::Cleartext => {
                    let Stored::Password(password) = stored else { panic!("no password") };
                    wire.send(|out| write::password(out, password.expose().as_bytes()));
                }
                Authentication::Md5 { salt } => {
                    let proof = md5::proof(&stored.md5(user).unwrap(), salt);
                    wire.send(|out| write::password(out, proof.expose().as_bytes()));
                }
                Authentication::Sasl(mechanisms) => {
                    let binding = Binding::choose(mechanisms.iter(), None).unwrap();
                    let client = Client::new(credential.cloned().unwrap(), binding);
                    let (first, next) = client.first("", [7; 18]);
                    wire.send(|out| write::sasl_initial(out, MECHANISM, &first));
                    awaiting_first = Some(next);
                }
                Authentication::SaslContinue(data) => {
                    let (proof, next) = awaiting_first.take().unwrap().proof(data).unwrap();
                    wire.send(|out| write::sasl_response(out, &proof));
                    awaiting_final = Some(next);
                }
                Authentication::SaslFinal(data) => awaiting_final.take().unwrap().finish(data).unwrap(),
                Authentication::Other(other) => panic!("{other}"),
            },
            backend::tag::ERROR => {
                let fields = Fields::of(&message);
                let text = String::from_utf8_lossy(fields.message().unwrap()).into_owned();
                return Err(format!("{} {text}", fields.sqlstate().unwrap()));
            }
            backend::tag::READY => return Ok(wire),
            _ => {}
        }
    }
}

fn look_whole(tag: u8) -> Look {
    match backend::look(tag) {
        Look::Refuse => Look::Refuse,
        _ => Look::Whole(1 << 20),
    }
}

#[test]
fn a_real_server_takes_our_proofs_and_its_answers_are_understood() {
    let rules = ["scram scram-sha-256", "digest md5", "clear password"];
    let rules = rules.iter().map(|rule| rule.split_once(' ').unwrap());
    let rules = rules.map(|(user, method)| format!("host all {user} 127.0.0.1/32 {method}")).collect();
    let cluster = Postgres::start(&PostgresOptions { rules, ..PostgresOptions::default() }).unwrap();
    // What we make is what the server stores.
    let ours = Secret::from_password("p\u{e4}ss w\u{f6}rd", b"0123456789abcdef", 4096).to_text();
    let text = format!(
        "CREATE ROLE scram LOGIN PASSWORD '{ours}'; CREATE ROLE clear LOGIN PASSWORD 'secret';
         SET password_encryption = md5; CREATE ROLE digest LOGIN PASSWORD 'secret'"
    );
    cluster.sql(0, &text).unwrap();
    let kept =
        cluster.sql(0, "SELECT rolpassword FROM pg_authid WHERE rolname IN ('digest', 'scram') ORDER BY 1").unwrap();
    assert_eq!(kept, [ours.as_str(), md5::stored("secret", "digest").expose()]);
    let port = cluster.port(0);
    let password = |text: &str| Some(Credential::Password(vocab::Secret::new(text)));
    let secret = Stored::parse("secret");
    let wrong = Stored::parse("wrong");
    log_in(port, "scram", password("p\u{e4}ss w\u{f6}rd").as_ref(), &secret).unwrap();
    log_in(port, "digest", None, &secret).unwrap();
    log_in(port, "clear", None, &secret).unwrap();
    for (user, credential) in [("scram", password("wrong")), ("digest", None), ("clear", None)] {
        let error = log_in(port, user, credential.as_ref(), &wrong).map(|_| ()).unwrap_err();
        assert_eq!(error, format!("28P01 password authentication failed for user \"{user}\""));
    }
    let mut wire = log_in(port, "digest", None, &Stored::parse(&kept[1])).unwrap();
    understands(&mut wire);
}

/// A group whose second half fails, ours and the client's in one, and a simple query behind it.
fn understands(wire: &mut Wire) {
    let mut ledger = Ledger::default();
    let mut out = Vec::new();
    let parse = |text: &'static str| frontend::Parse { name: b"", text: text.as_bytes(), types: &[] };
    write::parse(&mut out, b"tf_1", &parse("SELECT generate_series(1, 3)"));
    ledger.ask(Question::Parse, Owner::Ours, 1);
    let bind = |statement: &[u8]| {
        let mut bind = Vec::new();
        write::message(&mut bind, frontend::tag::BIND, |out| {
            out.extend([b"\0", statement, b"\0\0\0\0\0\0\0"].concat());
        });
        bind
    };
    out.extend(bind(b"tf_1"));
    ledger.ask(Question::Bind, Owner::Client, 2);
    write::message(&mut out, frontend::tag::EXECUTE, |out| out.extend([0; 5]));
    ledger.ask(Question::Execute, Owner::Client, 3);
    out.extend(bind(b"missing"));
    ledger.ask(Question::Bind, Owner::Client, 4);
    write::message(&mut out, frontend::tag::EXECUTE, |out| out.extend([0; 5]));
    ledger.ask(Question::Execute, Owner::Client, 5);
    write::sync(&mut out);
    ledger.ask(Question::Sync, Owner::Client, 6);
    write::query(&mut out, "BEGIN; SELECT 1/0");
    ledger.ask(Question::Query, Owner::Client, 7);
    wire.send(|all| *all = out);
    let (mut seen, mut dropped) = (String::new(), Vec::new());
    while !ledger.is_empty() {
        let message = wire.message(look_whole);
        let answer = ledger.answer(message[0]).unwrap();
        if answer.owner == Owner::Client {
            seen.push(char::from(message[0]));
        }
        dropped.extend(ledger.dropped().map(|due| due.label));
        if message[0] == backend::tag::ERROR {
            let state = Fields::of(&message).sqlstate().unwrap().to_string();
            assert!(state == "26000" || state == "22012", "{state}");
        }
        if ledger.is_empty() {
            assert_eq!(backend::ready(&message), Ok(TransactionStatus::Failed));
        }
    }
    assert_eq!((seen.as_str(), &dropped[..]), ("2DDDCEZCEZ", &[4, 5][..]));
}

/// A trigger fails before the server has read anything of what is copied: every `Sync` behind it is answered.
#[test]
fn a_copy_that_fails_at_once_leaves_each_sync_to_be_answered() {
    let cluster = Postgres::start(&PostgresOptions::default()).unwrap();
    let text = "CREATE TABLE t (a int); CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN RAISE 'no'; END $$; CREATE TRIGGER f BEFORE INSERT ON t EXECUTE FUNCTION f()";
    cluster.sql(0, text).unwrap();
    let mut wire = log_in(cluster.port(0), "postgres", None, &Stored::parse("")).unwrap();
    let copy = "COPY t FROM STDIN";
    let mut ledger = Ledger::default();
    wire.send(|out| {
        write::query(out, copy);
        write::sync(out);
    });
    ledger.ask(Question::Query, Owner::Client, 0);
    ledger.ask(Question::Sync, Owner::Client, 1);
    assert_eq!(answers(&mut wire, &mut ledger, 4), "GEZZ");
    assert!(ledger.is_empty() && ledger.is_uncertain());
    let mut ledger = Ledger::default();
    wire.send(|out| {
        write::parse(out, b"", &frontend::Parse { name: b"", text: copy.as_bytes(), types: &[] });
        write::message(out, frontend::tag::BIND, |out| out.extend([0; 8]));
        write::message(out, frontend::tag::EXECUTE, |out| out.extend([0; 5]));
        write::sync(out);
        write::message(out, frontend::tag::COPY_DONE, |_| {});
        write::sync(out);
    });
    let questions =
        [Question::Parse, Question::Bind, Question::Execute, Question::Sync, Question::CopyEnd, Question::Sync];
    questions.into_iter().for_each(|question| ledger.ask(question, Owner::Client, 0));
    assert_eq!(answers(&mut wire, &mut ledger, 6), "12GEZZ");
    assert!(ledger.is_empty() && ledger.is_uncertain());
}

fn answers(wire: &mut Wire, ledger: &mut Ledger, count: usize) -> String {
    let mut seen = String::new();
    while seen.len() < count {
        let tag = wire.message(look_whole)[0];
        ledger.answer(tag).unwrap();
        seen.push(char::from(tag));
    }
    seen
}

/// Serves one client as a server would that knows one user and answers every query with one row.
fn serve(listener: &TcpListener, secret: &Secret) -> Result<Startup, String> {
    let mut wire = Wire::new(listener.accept().unwrap().0);
    let session = loop {
        match wire.opening() {
            Opening::SslRequest | Opening::GssRequest => wire.send(|out| out.push(b'N')),
            Opening::Startup(session) => break session,
            other => panic!("{other:?}"),
        }
    };
    let server = Server::new(secret.clone(), None);
    let mechanisms = server.mechanisms();
    wire.send(|out| write::authentication_sasl(out, mechanisms));
    let message = wire.message(frontend::look_at_password);
    let initial = SaslInitial::read(&message).unwrap();
    let (answer, server) = server.first(initial.mechanism, initial.data.unwrap(), [9; 18]).unwrap();
    wire.send(|out| write::authentication_sasl_continue(out, &answer));
    let message = wire.message(frontend::look_at_password);
    let verified = match server.finish(frontend::sasl_response(&message)) {
        Ok(verified) => verified,
        Err(error) => {
            let text = error.to_string();
            wire.send(|out| write::report(out, &Report::new(Severity::Fatal, error.sqlstate(), &text)));
            return Err(text);
        }
    };
    wire.send(|out| {
        write::authentication_sasl_final(out, &verified.answer);
        write::authentication_ok(out);
        write::parameter_status(out, b"server_version", b"15.0");
        write::parameter_status(out, b"client_encoding", b"UTF8");
        write::backend_key(out, 1, &[0; 4]);
        write::ready(out, TransactionStatus::Idle);
    });
    loop {
        let message = wire.message(|tag| frontend::look(tag, 1 << 20));
        if message[0] == frontend::tag::TERMINATE {
            return Ok(session);
        }
        let text = String::from_utf8(frontend::query(&message).unwrap().to_vec()).unwrap();
        wire.send(|out| {
            write::row_description(out, &["said"]);
            write::data_row(out, &[Some(text)]);
            write::command_complete(out, "SELECT 1");
            write::ready(out, TransactionStatus::Idle);
        });
    }
}

#[test]
fn psql_proves_itself_to_us() {
    let secret = Secret::from_password("s\u{e9}same", b"salt", 4096);
    for (password, succeeds) in [("s\u{e9}same", true), ("wrong", false)] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let secret = secret.clone();
        let server = std::thread::spawn(move || serve(&listener, &secret));
        let mut psql = Command::new("/usr/lib/postgresql/15/bin/psql");
        psql.args([
            "-X",
            "-A",
            "-t",
            "-h",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "-U",
            "ada",
            "-c",
            "SELECT 1",
            "shop",
        ]);
        let output = psql.env("PGPASSWORD", password).env("PGOPTIONS", "-c a.b=c").output().unwrap();
        let served = server.join().unwrap();
        assert_eq!(output.status.success(), succeeds, "{}", String::from_utf8_lossy(&output.stderr));
        if succeeds {
            let session = served.unwrap();
            assert_eq!((session.user.as_str(), session.database.as_str()), ("ada", "shop"));
            assert!(session.settings.contains(&("a.b".to_owned(), "c".to_owned())), "{:?}", session.settings);
            assert_eq!(String::from_utf8(output.stdout).unwrap(), "SELECT 1\n");
        } else {
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(said.contains("the password is wrong"), "{said}");
        }
    }
}
