//! Parses the schema-changing statements that a restore replays, and INSERT.

use super::parse::{Cursor, Term, Token, term};
use super::response::CqlError;
use crate::cluster::{Column, ColumnKind, NewTable, SchemaStatement, TableKind, TombstoneGc};

/// `INSERT INTO keyspace.table (columns) VALUES (terms)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Insert {
    pub keyspace: Option<String>,
    pub table: String,
    pub values: Vec<(String, Term)>,
}

pub(super) fn insert(cursor: &mut Cursor) -> Result<Insert, CqlError> {
    cursor.expect_word("into")?;
    let (keyspace, table) = cursor.qualified_name()?;
    let columns = names(cursor)?;
    cursor.expect_word("values")?;
    cursor.expect_symbol('(')?;
    let mut terms = Vec::new();
    while !cursor.symbol(')') {
        terms.push(term(cursor)?);
        cursor.symbol(',');
    }
    if columns.len() != terms.len() {
        return Err(CqlError::invalid("Unmatched column names/values"));
    }
    Ok(Insert { keyspace, table, values: columns.into_iter().zip(terms).collect() })
}

/// `(a, b, ...)`.
fn names(cursor: &mut Cursor) -> Result<Vec<String>, CqlError> {
    cursor.expect_symbol('(')?;
    let mut names = Vec::new();
    while !cursor.symbol(')') {
        names.push(cursor.name()?);
        cursor.symbol(',');
    }
    Ok(names)
}

/// What may stand behind `WITH` and matters here.
#[derive(Debug, Default)]
struct Options {
    id: Option<uuid::Uuid>,
    tombstone_gc: Option<TombstoneGc>,
    uncompressed: bool,
    cdc: bool,
    replication: Vec<(String, String)>,
    tablets: Vec<(String, String)>,
    durable_writes: Option<bool>,
}

/// Parses a CREATE, ALTER or DROP; `None` if the statement starts otherwise.
///
/// `in_use` is the keyspace of names without one.
pub(super) fn schema_statement(
    cursor: &mut Cursor,
    in_use: Option<&str>,
) -> Result<Option<SchemaStatement>, CqlError> {
    Ok(Some(if cursor.words(&["create", "keyspace"]) {
        create_keyspace(cursor)?
    } else if cursor.words(&["create", "table"]) {
        create_table(cursor, in_use)?
    } else if cursor.words(&["create", "materialized", "view"]) {
        create_view(cursor, in_use)?
    } else if cursor.words(&["create", "index"]) || cursor.words(&["create", "custom", "index"]) {
        create_index(cursor, in_use)?
    } else if cursor.words(&["create", "role"]) {
        let (lenient, role) = (if_not_exists(cursor), cursor.name()?);
        options(cursor)?;
        SchemaStatement::CreateRole { lenient, role }
    } else if cursor.words(&["alter", "table"]) || cursor.words(&["alter", "materialized", "view"]) {
        let (keyspace, table) = qualified(cursor, in_use)?;
        let options = options(cursor)?;
        SchemaStatement::Alter { keyspace, table, tombstone_gc: options.tombstone_gc }
    } else if cursor.words(&["drop", "keyspace"]) {
        SchemaStatement::DropKeyspace { lenient: if_exists(cursor), keyspace: cursor.name()? }
    } else if cursor.words(&["drop", "index"]) {
        let lenient = if_exists(cursor);
        let (keyspace, index) = qualified(cursor, in_use)?;
        SchemaStatement::DropIndex { lenient, keyspace, index }
    } else if cursor.words(&["drop", "materialized", "view"]) {
        drop_table(cursor, in_use, true)?
    } else if cursor.words(&["drop", "table"]) {
        drop_table(cursor, in_use, false)?
    } else {
        return Ok(None);
    }))
}

fn if_exists(cursor: &mut Cursor) -> bool {
    cursor.words(&["if", "exists"])
}

fn if_not_exists(cursor: &mut Cursor) -> bool {
    cursor.words(&["if", "not", "exists"])
}

fn qualified(cursor: &mut Cursor, in_use: Option<&str>) -> Result<(String, String), CqlError> {
    let (keyspace, name) = cursor.qualified_name()?;
    let keyspace = keyspace.or_else(|| in_use.map(str::to_owned));
    keyspace.map(|ks| (ks, name)).ok_or_else(|| CqlError::invalid("No keyspace has been specified"))
}

fn drop_table(cursor: &mut Cursor, in_use: Option<&str>, view: bool) -> Result<SchemaStatement, CqlError> {
    let lenient = if_exists(cursor);
    let (keyspace, table) = qualified(cursor, in_use)?;
    Ok(SchemaStatement::DropTable { lenient, keyspace, table, view })
}

fn create_keyspace(cursor: &mut Cursor) -> Result<SchemaStatement, CqlError> {
    let lenient = if_not_exists(cursor);
    let keyspace = cursor.name()?;
    let options = options(cursor)?;
    let option = |name: &str| options.tablets.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str());
    let initial = option("initial").and_then(|n| n.parse().ok()).filter(|n| *n > 0).unwrap_or(8);
    Ok(SchemaStatement::CreateKeyspace {
        lenient,
        keyspace,
        replication: options.replication.clone(),
        tablets: (option("enabled") == Some("true")).then_some(initial),
        durable_writes: options.durable_writes.unwrap_or(true),
    })
}

fn create_table(cursor: &mut Cursor, in_use: Option<&str>) -> Result<SchemaStatement, CqlError> {
    let lenient = if_not_exists(cursor);
    let (keyspace, name) = qualified(cursor, in_use)?;
    cursor.expect_symbol('(')?;
    let (mut columns, mut key) = (Vec::new(), Key::default());
    while !cursor.symbol(')') {
        if cursor.words(&["primary", "key"]) {
            key = primary_key(cursor)?;
        } else {
            columns.push(column(cursor, &mut key)?);
        }
        cursor.symbol(',');
    }
    key.assign(&mut columns);
    let options = options(cursor)?;
    let table = new_table(name, TableKind::Base, columns, &options);
    Ok(SchemaStatement::CreateTable { lenient, keyspace, table })
}

fn new_table(name: String, kind: TableKind, columns: Vec<Column>, options: &Options) -> NewTable {
    NewTable {
        name,
        id: options.id,
        kind,
        columns,
        tombstone_gc: options.tombstone_gc,
        compressed: !options.uncompressed,
        cdc: options.cdc,
    }
}

/// Columns of the primary key.
#[derive(Default)]
struct Key {
    partition: Vec<String>,
    clustering: Vec<String>,
}

impl Key {
    /// Sets kinds and positions, and puts the key in front.
    fn assign(&self, columns: &mut [Column]) {
        for column in columns.iter_mut() {
            let place = |names: &[String]| names.iter().position(|n| *n == column.name);
            (column.kind, column.position) = match (place(&self.partition), place(&self.clustering)) {
                (Some(at), _) => (ColumnKind::PartitionKey, at as i32),
                (_, Some(at)) => (ColumnKind::Clustering, at as i32),
                (None, None) => (ColumnKind::Regular, -1),
            };
        }
        columns.sort_by_key(|c| (c.kind, c.position));
    }
}

/// `name type [STATIC] [PRIMARY KEY]`.
fn column(cursor: &mut Cursor, key: &mut Key) -> Result<Column, CqlError> {
    let name = cursor.name()?;
    let mut cql_type = String::new();
    let mut depth = 0;
    loop {
        match cursor.peek() {
            Some(Token::Symbol(',' | ')')) if depth == 0 => break,
            Some(Token::Word(word)) if depth == 0 && word == "static" => {
                cursor.next()?;
            }
            Some(Token::Word(word)) if depth == 0 && word == "primary" => {
                cursor.next()?;
                cursor.expect_word("key")?;
                key.partition.push(name.clone());
            }
            None => return Err(cursor.error()),
            Some(_) => match cursor.next()? {
                Token::Word(text) | Token::Literal(text) => cql_type.push_str(&text),
                Token::Quoted(text) => cql_type.push_str(&format!("\"{text}\"")),
                Token::Text(text) => cql_type.push_str(&format!("'{text}'")),
                Token::Symbol(symbol) => {
                    depth += i32::from(symbol == '<') - i32::from(symbol == '>');
                    cql_type.push(symbol);
                    if symbol == ',' {
                        cql_type.push(' ');
                    }
                }
            },
        }
    }
    Ok(Column { name, cql_type, kind: ColumnKind::Regular, position: -1 })
}

/// `(a, b)` or `((a, b), c)`.
fn primary_key(cursor: &mut Cursor) -> Result<Key, CqlError> {
    cursor.expect_symbol('(')?;
    let partition =
        if cursor.peek() == Some(&Token::Symbol('(')) { names(cursor)? } else { vec![cursor.name()?] };
    let mut clustering = Vec::new();
    while !cursor.symbol(')') {
        cursor.expect_symbol(',')?;
        clustering.push(cursor.name()?);
    }
    Ok(Key { partition, clustering })
}

fn create_view(cursor: &mut Cursor, in_use: Option<&str>) -> Result<SchemaStatement, CqlError> {
    let lenient = if_not_exists(cursor);
    let (keyspace, name) = qualified(cursor, in_use)?;
    cursor.expect_word("as")?;
    cursor.expect_word("select")?;
    let mut selected = Vec::new();
    while !cursor.word("from") {
        match cursor.next()? {
            Token::Word(name) | Token::Quoted(name) => selected.push(name),
            Token::Symbol(',' | '*') => {}
            Token::Text(_) | Token::Literal(_) | Token::Symbol(_) => return Err(cursor.error()),
        }
    }
    let (_, base) = qualified(cursor, in_use)?;
    // The filter decides which rows the view has; ours have all.
    while !cursor.words(&["primary", "key"]) {
        cursor.next()?;
    }
    let key = primary_key(cursor)?;
    let options = options(cursor)?;
    // `SELECT *`: the key is all that is known here.
    if selected.is_empty() {
        selected = key.partition.iter().chain(&key.clustering).cloned().collect();
    }
    let text =
        |name: String| Column { name, cql_type: "text".to_owned(), kind: ColumnKind::Regular, position: -1 };
    let mut columns: Vec<Column> = selected.into_iter().map(text).collect();
    key.assign(&mut columns);
    let table = new_table(name, TableKind::View { base }, columns, &options);
    Ok(SchemaStatement::CreateTable { lenient, keyspace, table })
}

fn create_index(cursor: &mut Cursor, in_use: Option<&str>) -> Result<SchemaStatement, CqlError> {
    let lenient = if_not_exists(cursor);
    let name = if cursor.word("on") {
        None
    } else {
        let name = cursor.name()?;
        cursor.expect_word("on")?;
        Some(name)
    };
    let (keyspace, base) = qualified(cursor, in_use)?;
    let target = names(cursor)?.join("_");
    // USING and WITH say how an index works, not that there is one.
    while !cursor.at_end() {
        cursor.next()?;
    }
    let index = name.unwrap_or_else(|| format!("{base}_{target}_idx"));
    let kind = TableKind::Index { base, index: index.clone() };
    let table = new_table(format!("{index}_index"), kind, Vec::new(), &Options::default());
    Ok(SchemaStatement::CreateTable { lenient, keyspace, table })
}

/// `WITH name = value AND ...`; nothing there is fine.
fn options(cursor: &mut Cursor) -> Result<Options, CqlError> {
    let mut options = Options::default();
    if !cursor.word("with") {
        return Ok(options);
    }
    loop {
        if cursor.words(&["clustering", "order", "by"]) {
            while !cursor.symbol(')') {
                cursor.next()?;
            }
        } else if !cursor.words(&["compact", "storage"]) {
            option(cursor, &mut options)?;
        }
        if !cursor.word("and") {
            return Ok(options);
        }
    }
}

fn option(cursor: &mut Cursor, options: &mut Options) -> Result<(), CqlError> {
    let name = cursor.name()?;
    cursor.expect_symbol('=')?;
    if cursor.peek() == Some(&Token::Symbol('{')) {
        let map = map(cursor)?;
        match name.as_str() {
            "replication" => options.replication = map,
            "tablets" => options.tablets = map,
            "compression" => options.uncompressed = map.iter().all(|(_, v)| v.is_empty()),
            "cdc" => options.cdc = map.iter().any(|(k, v)| k == "enabled" && v == "true"),
            "tombstone_gc" => options.tombstone_gc = tombstone_gc(&map),
            _ => {}
        }
        return Ok(());
    }
    let value = match cursor.next()? {
        Token::Word(text) | Token::Quoted(text) | Token::Text(text) | Token::Literal(text) => text,
        Token::Symbol(_) => return Err(cursor.error()),
    };
    match name.as_str() {
        "id" => options.id = Some(value.parse().map_err(|_| cursor.error())?),
        "durable_writes" => options.durable_writes = value.parse().ok(),
        _ => {}
    }
    Ok(())
}

/// `{'key': 'value', ...}`; values may be unquoted.
fn map(cursor: &mut Cursor) -> Result<Vec<(String, String)>, CqlError> {
    cursor.expect_symbol('{')?;
    let mut map = Vec::new();
    let plain = |cursor: &mut Cursor| match cursor.next()? {
        Token::Word(text) | Token::Text(text) | Token::Literal(text) => Ok(text),
        Token::Quoted(_) | Token::Symbol(_) => Err(cursor.error()),
    };
    while !cursor.symbol('}') {
        let key = plain(cursor)?;
        cursor.expect_symbol(':')?;
        map.push((key, plain(cursor)?));
        cursor.symbol(',');
    }
    Ok(map)
}

fn tombstone_gc(map: &[(String, String)]) -> Option<TombstoneGc> {
    let mode = &map.iter().find(|(k, _)| k == "mode")?.1;
    [TombstoneGc::Disabled, TombstoneGc::Timeout, TombstoneGc::Repair, TombstoneGc::Immediate]
        .into_iter()
        .find(|m| m.as_str() == mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<SchemaStatement> {
        schema_statement(&mut Cursor::new(text).unwrap(), Some("used")).unwrap()
    }

    #[test]
    fn tables_keep_columns_key_id_and_mode() {
        let id = uuid::Uuid::from_u128(7);
        let text = format!(
            "CREATE TABLE IF NOT EXISTS ks.\"T\" (a int, b map<text, frozen<list<int>>>, c text STATIC, \
             PRIMARY KEY ((a, c), b)) WITH ID = {id} AND CLUSTERING ORDER BY (b DESC) AND compression = {{}} \
             AND speculative_retry = '99.0PERCENTILE' AND tombstone_gc = {{'mode': 'repair'}};"
        );
        let Some(SchemaStatement::CreateTable { lenient, keyspace, table }) = parse(&text) else { panic!() };
        assert_eq!((lenient, keyspace.as_str(), table.name.as_str()), (true, "ks", "T"));
        assert_eq!((table.id, table.compressed), (Some(id), false));
        assert_eq!(table.tombstone_gc, Some(TombstoneGc::Repair));
        let columns: Vec<_> =
            table.columns.iter().map(|c| format!("{} {} {:?}", c.name, c.cql_type, c.kind)).collect();
        let expected =
            ["a int PartitionKey", "c text PartitionKey", "b map<text, frozen<list<int>>> Clustering"];
        assert_eq!(columns, expected);
    }

    #[test]
    fn other_statements_of_a_restore_parse() {
        let lenient =
            |keyspace: &str| SchemaStatement::DropKeyspace { lenient: true, keyspace: keyspace.into() };
        assert_eq!(parse("DROP KEYSPACE IF EXISTS \"Ks\""), Some(lenient("Ks")));
        let Some(SchemaStatement::CreateTable { table, .. }) = parse(
            "CREATE MATERIALIZED VIEW IF NOT EXISTS ks.mv AS SELECT pk, v FROM ks.t WHERE v IS NOT NULL \
             PRIMARY KEY (v, pk) WITH comment = ''",
        ) else {
            panic!()
        };
        assert_eq!(table.kind, TableKind::View { base: "t".into() });
        let Some(SchemaStatement::CreateTable { keyspace, table, .. }) = parse("CREATE INDEX ON t(v)") else {
            panic!()
        };
        assert_eq!((keyspace.as_str(), table.name.as_str()), ("used", "t_v_idx_index"));
        let altered = SchemaStatement::Alter {
            keyspace: "ks".into(),
            table: "t".into(),
            tombstone_gc: Some(TombstoneGc::Disabled),
        };
        assert_eq!(parse("ALTER TABLE \"ks\".\"t\" WITH tombstone_gc = {'mode': 'disabled'}"), Some(altered));
        assert_eq!(parse("GRANT ALL"), None);
    }
}
