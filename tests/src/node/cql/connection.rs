//! One CQL connection: handshake, login, requests in order, events in between.

use std::collections::HashMap;
use std::net::TcpStream as StdTcpStream;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::Utc;
use futures::{SinkExt, StreamExt};
use md5::{Digest, Md5};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tokio_util::codec::Framed;

use super::super::NodeCore;
use super::super::faults::CallFacts;
use super::super::observed::Call;
use super::super::servers::reset_on_close;
use super::ddl::{self, Insert, schema_statement};
use super::frame::{Body, Codec, Frame, Malformed, opcode};
use super::parse::{Cursor, Select, Token, select as parse_select};
use super::response::{self, ColumnSpec, CqlError, CqlResult, ErrorCode, Marker, Response, RowSet};
use super::select;
use super::values::{CqlType, CqlValue};
use super::write;
use crate::cluster::{SchemaStatement, describe};

const FLAG_VALUES: u8 = 0x01;
const FLAG_SKIP_METADATA: u8 = 0x02;
const FLAG_NAMED_VALUES: u8 = 0x40;

/// Serves one connection until the client leaves or a fault breaks it.
pub(super) async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    core: Arc<NodeCore>,
    shard: u32,
    control: &StdTcpStream,
) {
    let mut events = core.shared.schema_events.subscribe();
    let mut framed = Framed::new(stream, Codec);
    let login = if core.shared.options.auth.is_some() { Login::Missing } else { Login::Done };
    let mut connection =
        Connection { core, shard, login, schema_events: false, prepared: HashMap::new(), keyspace: None };
    loop {
        tokio::select! {
            frame = framed.next() => {
                let Some(Ok(frame)) = frame else { return };
                let (version, stream) = (connection.version(&frame), frame.stream);
                match connection.answer(frame).await {
                    Some((opcode, body)) => {
                        let frame = Frame { version, flags: 0, stream, opcode, body };
                        if framed.send(frame).await.is_err() {
                            return;
                        }
                    }
                    None => return reset_on_close(control),
                }
            }
            change = events.recv() => match change {
                Ok(change) if connection.schema_events => {
                    let (opcode, body) = response::schema_event(&change);
                    // Events have the stream number -1.
                    let frame = Frame { version: 4, flags: 0, stream: -1, opcode, body };
                    if framed.send(frame).await.is_err() {
                        return;
                    }
                }
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Login {
    /// Credentials are wanted, and STARTUP has not asked for them.
    Missing,
    /// STARTUP was answered with a demand for credentials.
    Asked,
    Done,
}

struct Connection {
    core: Arc<NodeCore>,
    shard: u32,
    login: Login,
    schema_events: bool,
    prepared: HashMap<Bytes, String>,
    keyspace: Option<String>,
}

/// Parameters of QUERY and EXECUTE that matter here.
#[derive(Default)]
struct Parameters {
    bound: Vec<Option<Bytes>>,
    skip_metadata: bool,
}

/// What a statement is.
enum Statement {
    Select(Select),
    DescribeSchema { internals: bool },
    Use(String),
    Schema(SchemaStatement),
    Insert(Insert),
}

impl Connection {
    /// Version of the answer: that of the request, or ours for a version we do not speak.
    fn version(&self, frame: &Frame) -> u8 {
        if (3..=4).contains(&frame.version) { frame.version } else { 4 }
    }

    /// Answers one request; `None` breaks the connection.
    async fn answer(&mut self, frame: Frame) -> Option<Response> {
        let (started, clock) = (Utc::now(), Instant::now());
        let core = Arc::clone(&self.core);
        let name = self.request_name(&frame);
        let (node, dc) = {
            let model = core.shared.model();
            let member = model.member(core.id);
            (member.address.to_string(), member.dc.clone())
        };
        let _running = core.shared.observed.enter(core.id, &dc, format!("CQL {name}"));
        let facts = CallFacts { node: &node, method: "CQL", path: &name, query: &[] };
        let decision = core.shared.rules.decide(&facts);
        let answer = self.with_faults(frame, decision).await;
        let call = Call {
            number: 0,
            node,
            method: "CQL".to_owned(),
            path: name,
            query: Default::default(),
            status: None,
            started,
            millis: u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        core.shared.observed.record(call, true);
        answer
    }

    async fn with_faults(
        &mut self,
        frame: Frame,
        decision: super::super::faults::Decision,
    ) -> Option<Response> {
        let core = Arc::clone(&self.core);
        pause(decision.delay).await;
        if let Some(rule) = decision.hang {
            core.shared.rules.released(rule).await;
        }
        if decision.reset {
            return None;
        }
        if let Some(substitute) = decision.instead {
            let message = substitute.body.unwrap_or_else(|| "injected fault".to_owned());
            return Some(response::error(&CqlError::new(ErrorCode::Server, message)));
        }
        let answer = self.perform(frame).await;
        pause(decision.delay_after).await;
        if let Some(rule) = decision.hang_after {
            core.shared.rules.released(rule).await;
        }
        if decision.reset_after { None } else { Some(answer) }
    }

    /// The statement, or the kind of request where there is none.
    fn request_name(&self, frame: &Frame) -> String {
        let statement = || match frame.opcode {
            opcode::QUERY | opcode::PREPARE => frame.plain_body().ok()?.long_string().ok(),
            opcode::EXECUTE => {
                let id = frame.plain_body().ok()?.short_bytes().ok()?;
                self.prepared.get(&id).cloned()
            }
            _ => None,
        };
        statement().unwrap_or_else(|| {
            match frame.opcode {
                opcode::STARTUP => "STARTUP",
                opcode::OPTIONS => "OPTIONS",
                opcode::QUERY => "QUERY",
                opcode::PREPARE => "PREPARE",
                opcode::EXECUTE => "EXECUTE",
                opcode::REGISTER => "REGISTER",
                opcode::AUTH_RESPONSE => "AUTH_RESPONSE",
                _ => "UNKNOWN",
            }
            .to_owned()
        })
    }

    async fn perform(&mut self, frame: Frame) -> Response {
        match self.try_perform(frame).await {
            Ok(answer) => answer,
            Err(error) => response::error(&error),
        }
    }

    async fn try_perform(&mut self, frame: Frame) -> Result<Response, CqlError> {
        if !(3..=4).contains(&frame.version) {
            let message = format!("Invalid or unsupported protocol version: {}", frame.version);
            return Err(CqlError::new(ErrorCode::Protocol, message));
        }
        if frame.wants_tracing() {
            return Err(CqlError::new(ErrorCode::Protocol, "the simulator has no tracing"));
        }
        let mut body = frame.plain_body().map_err(malformed)?;
        match frame.opcode {
            opcode::OPTIONS => return Ok(self.supported()),
            opcode::STARTUP => return self.startup(&mut body),
            opcode::AUTH_RESPONSE => return self.authenticate(&mut body),
            _ => {}
        }
        if self.login != Login::Done {
            let message = "Unexpected message, expected STARTUP and AUTH_RESPONSE";
            return Err(CqlError::new(ErrorCode::Protocol, message));
        }
        match frame.opcode {
            opcode::REGISTER => {
                let types = body.string_list().map_err(malformed)?;
                self.schema_events = types.iter().any(|t| t == "SCHEMA_CHANGE");
                Ok(response::ready())
            }
            opcode::QUERY => {
                let statement = body.long_string().map_err(malformed)?;
                let parameters = parameters(&mut body)?;
                let result = self.execute(&statement, &parameters).await?;
                Ok(response::result(&result, parameters.skip_metadata))
            }
            opcode::PREPARE => {
                let statement = body.long_string().map_err(malformed)?;
                self.prepare(frame.version, statement)
            }
            opcode::EXECUTE => {
                let id = body.short_bytes().map_err(malformed)?;
                let statement = self.prepared.get(&id).cloned();
                let statement = statement.ok_or_else(|| CqlError::unprepared(&id))?;
                let parameters = parameters(&mut body)?;
                let result = self.execute(&statement, &parameters).await?;
                Ok(response::result(&result, parameters.skip_metadata))
            }
            other => {
                let message = format!("Unknown opcode {other}");
                Err(CqlError::new(ErrorCode::Protocol, message))
            }
        }
    }

    fn supported(&self) -> Response {
        let shards = self.core.shared.model().member(self.core.id).shards.max(1);
        let one = |value: &str| vec![value.to_owned()];
        response::supported(&[
            ("CQL_VERSION", one("3.0.0")),
            ("COMPRESSION", Vec::new()),
            ("SCYLLA_SHARD", one(&(self.shard % shards).to_string())),
            ("SCYLLA_NR_SHARDS", one(&shards.to_string())),
            ("SCYLLA_SHARDING_ALGORITHM", one("biased-token-round-robin")),
            ("SCYLLA_SHARDING_IGNORE_MSB", one("12")),
            ("SCYLLA_PARTITIONER", one("org.apache.cassandra.dht.Murmur3Partitioner")),
        ])
    }

    fn startup(&mut self, body: &mut Body) -> Result<Response, CqlError> {
        let options = body.string_map().map_err(malformed)?;
        if options.iter().any(|(name, value)| name == "COMPRESSION" && !value.is_empty()) {
            return Err(CqlError::new(ErrorCode::Protocol, "Unknown compression algorithm"));
        }
        if self.login == Login::Done {
            return Ok(response::ready());
        }
        self.login = Login::Asked;
        Ok(response::authenticate("org.apache.cassandra.auth.PasswordAuthenticator"))
    }

    /// Checks a SASL PLAIN answer: identity, user name and password with zero bytes between.
    fn authenticate(&mut self, body: &mut Body) -> Result<Response, CqlError> {
        let token = body.bytes().map_err(malformed)?.unwrap_or_default();
        let mut parts = token.split(|b| *b == 0).map(|part| String::from_utf8_lossy(part).into_owned());
        let (_, username, password) = (parts.next(), parts.next(), parts.next());
        let wanted = self.core.shared.options.auth.clone();
        let right = wanted.is_none_or(|w| Some(w.username) == username && Some(w.password) == password);
        if self.login == Login::Missing {
            return Err(CqlError::new(ErrorCode::Protocol, "Unexpected message, expected STARTUP"));
        }
        if !right {
            let message = self.core.shared.refusal();
            return Err(CqlError::new(ErrorCode::BadCredentials, message));
        }
        self.login = Login::Done;
        Ok(response::auth_success())
    }

    fn prepare(&mut self, version: u8, statement: String) -> Result<Response, CqlError> {
        let (markers, rows): (Vec<Marker>, Option<RowSet>) = match self.parse(&statement)? {
            Statement::Select(select) => {
                let (markers, rows) = select::describe(&self.core, &self.qualify(select))?;
                (markers, Some(rows))
            }
            Statement::DescribeSchema { .. } => (Vec::new(), Some(describe_shape())),
            Statement::Insert(insert) => (write::markers(&insert), None),
            Statement::Use(_) | Statement::Schema(_) => (Vec::new(), None),
        };
        let id = Bytes::copy_from_slice(&Md5::digest(&statement));
        self.prepared.insert(id.clone(), statement);
        Ok(response::prepared(version, &id, &markers, rows.as_ref()))
    }

    fn parse(&self, text: &str) -> Result<Statement, CqlError> {
        let parsed = parse(text, self.keyspace.as_deref());
        if matches!(&parsed, Err(error) if error.code == ErrorCode::Syntax) {
            self.core.shared.observed.unknown_statement(text);
        }
        parsed
    }

    /// Adds the keyspace in use to a table without one.
    fn qualify(&self, mut select: Select) -> Select {
        select.keyspace = select.keyspace.or_else(|| self.keyspace.clone());
        select
    }

    async fn execute(&mut self, text: &str, parameters: &Parameters) -> Result<CqlResult, CqlError> {
        match self.parse(text)? {
            Statement::Select(select) => {
                let select = self.qualify(select);
                select::run(&self.core, &select, &parameters.bound).await.map(CqlResult::Rows)
            }
            Statement::DescribeSchema { internals } => {
                let rows = describe::schema(&self.core.shared.model(), internals);
                let cells = |row: describe::DescribeRow| {
                    vec![
                        row.keyspace.map_or(CqlValue::Null, CqlValue::Text),
                        CqlValue::text(row.kind),
                        CqlValue::Text(row.name),
                        CqlValue::Text(row.statement),
                    ]
                };
                let rows = rows.into_iter().map(cells).collect();
                Ok(CqlResult::Rows(RowSet { rows, ..describe_shape() }))
            }
            Statement::Use(keyspace) => {
                if !self.core.shared.model().keyspaces.contains_key(&keyspace) {
                    return Err(CqlError::invalid(format!("Keyspace '{keyspace}' does not exist")));
                }
                self.keyspace = Some(keyspace.clone());
                Ok(CqlResult::SetKeyspace(keyspace))
            }
            Statement::Schema(statement) => write::change_schema(&self.core, statement, text).await,
            Statement::Insert(mut insert) => {
                insert.keyspace = insert.keyspace.or_else(|| self.keyspace.clone());
                write::insert(&self.core, &insert, &parameters.bound)
            }
        }
    }
}

/// Columns of `DESCRIBE`.
fn describe_shape() -> RowSet {
    let columns = ["keyspace_name", "type", "name", "create_statement"];
    RowSet {
        keyspace: "system".to_owned(),
        table: "describe".to_owned(),
        columns: columns.map(|name| ColumnSpec { name: name.to_owned(), cql_type: CqlType::Text }).to_vec(),
        rows: Vec::new(),
    }
}

fn parse(text: &str, in_use: Option<&str>) -> Result<Statement, CqlError> {
    let mut cursor = Cursor::new(text)?;
    let statement = if let Some(statement) = schema_statement(&mut cursor, in_use)? {
        Statement::Schema(statement)
    } else if cursor.word("insert") {
        Statement::Insert(ddl::insert(&mut cursor)?)
    } else if cursor.word("select") {
        Statement::Select(parse_select(&mut cursor)?)
    } else if cursor.words(&["describe", "schema"]) || cursor.words(&["desc", "schema"]) {
        let internals = cursor.words(&["with", "internals"]);
        if internals {
            cursor.words(&["and", "passwords"]);
        }
        Statement::DescribeSchema { internals }
    } else if cursor.word("use") {
        match cursor.next()? {
            Token::Word(name) | Token::Quoted(name) => Statement::Use(name),
            Token::Text(_) | Token::Literal(_) | Token::Symbol(_) => return Err(cursor.error()),
        }
    } else {
        return Err(cursor.error());
    };
    if cursor.at_end() { Ok(statement) } else { Err(cursor.error()) }
}

fn parameters(body: &mut Body) -> Result<Parameters, CqlError> {
    let _consistency = body.short().map_err(malformed)?;
    let flags = body.byte().map_err(malformed)?;
    let mut parameters = Parameters { skip_metadata: flags & FLAG_SKIP_METADATA != 0, ..Default::default() };
    if flags & FLAG_VALUES != 0 {
        for _ in 0..body.short().map_err(malformed)? {
            if flags & FLAG_NAMED_VALUES != 0 {
                body.string().map_err(malformed)?;
            }
            parameters.bound.push(body.bytes().map_err(malformed)?);
        }
    }
    // Page size, paging state and the rest do not matter: every answer is one page.
    Ok(parameters)
}

fn malformed(error: Malformed) -> CqlError {
    CqlError::new(ErrorCode::Protocol, error.to_string())
}

async fn pause(delay: Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}
