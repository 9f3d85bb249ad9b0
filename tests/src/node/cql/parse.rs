//! Splits a statement into tokens and recognises the few kinds that are served.

use super::response::CqlError;

/// A piece of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// An unquoted word, in lower case.
    Word(String),
    /// A name in double quotes.
    Quoted(String),
    /// Text in single quotes.
    Text(String),
    /// A number, UUID or other unquoted literal.
    Literal(String),
    Symbol(char),
}

/// Splits text into tokens; `None` if a quote is left open.
pub(super) fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if first.is_whitespace() {
            rest = &rest[first.len_utf8()..];
        } else if first == '\'' || first == '"' {
            let (value, after) = quoted(rest, first)?;
            tokens.push(if first == '"' { Token::Quoted(value) } else { Token::Text(value) });
            rest = after;
        } else if first.is_alphanumeric() || first == '_' || (first == '-' && starts_number(&rest[1..])) {
            let end = rest
                .char_indices()
                .skip(1)
                .find(|(_, c)| !(c.is_alphanumeric() || "_-.$".contains(*c)))
                .map_or(rest.len(), |(at, _)| at);
            let (word, after) = rest.split_at(end);
            let (word, after) = word_or_literal(word, after, rest);
            tokens.push(word);
            rest = after;
        } else {
            tokens.push(Token::Symbol(first));
            rest = &rest[first.len_utf8()..];
        }
    }
    Some(tokens)
}

fn starts_number(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
}

/// A run that may be a UUID or number keeps its dashes and dots; a word ends at the first of them.
fn word_or_literal<'a>(run: &str, after: &'a str, all: &'a str) -> (Token, &'a str) {
    let number = run.trim_start_matches('-').starts_with(|c: char| c.is_ascii_digit());
    if number || run.parse::<uuid::Uuid>().is_ok() {
        return (Token::Literal(run.to_owned()), after);
    }
    let end = run.find(['-', '.']).unwrap_or(run.len());
    (Token::Word(run[..end].to_lowercase()), &all[end..])
}

/// Reads up to the closing quote; a doubled quote stands for itself.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c != quote {
            value.push(c);
        } else if chars.peek().is_some_and(|(_, next)| *next == quote) {
            value.push(quote);
            chars.next();
        } else {
            return Some((value, &text[at + 1..]));
        }
    }
    None
}

/// Reads tokens one after another.
pub(super) struct Cursor {
    tokens: std::vec::IntoIter<Token>,
    statement: String,
    /// Bind markers seen so far.
    pub markers: usize,
}

impl Cursor {
    pub fn new(statement: &str) -> Result<Self, CqlError> {
        let trimmed = statement.trim().trim_end_matches(';').trim_end();
        let tokens = tokens(trimmed).ok_or_else(|| CqlError::syntax(statement))?;
        Ok(Self { tokens: tokens.into_iter(), statement: statement.to_owned(), markers: 0 })
    }

    pub fn error(&self) -> CqlError {
        CqlError::syntax(&self.statement)
    }

    pub fn peek(&self) -> Option<&Token> {
        self.tokens.as_slice().first()
    }

    pub fn next(&mut self) -> Result<Token, CqlError> {
        self.tokens.next().ok_or_else(|| CqlError::syntax(&self.statement))
    }

    pub fn at_end(&self) -> bool {
        self.peek().is_none()
    }

    /// Takes the word if it comes next.
    pub fn word(&mut self, word: &str) -> bool {
        let there = matches!(self.peek(), Some(Token::Word(w)) if w == word);
        if there {
            self.tokens.next();
        }
        there
    }

    /// Takes all the words if they come next, else none.
    pub fn words(&mut self, words: &[&str]) -> bool {
        let ahead = self.tokens.as_slice();
        let there = ahead.len() >= words.len()
            && words.iter().zip(ahead).all(|(w, t)| matches!(t, Token::Word(word) if word == w));
        if there {
            self.tokens.by_ref().take(words.len()).for_each(drop);
        }
        there
    }

    pub fn symbol(&mut self, symbol: char) -> bool {
        let there = self.peek() == Some(&Token::Symbol(symbol));
        if there {
            self.tokens.next();
        }
        there
    }

    pub fn expect_symbol(&mut self, symbol: char) -> Result<(), CqlError> {
        if self.symbol(symbol) { Ok(()) } else { Err(self.error()) }
    }

    pub fn expect_word(&mut self, word: &str) -> Result<(), CqlError> {
        if self.word(word) { Ok(()) } else { Err(self.error()) }
    }

    /// A name of a keyspace, table or column.
    pub fn name(&mut self) -> Result<String, CqlError> {
        match self.next()? {
            Token::Word(name) | Token::Quoted(name) => Ok(name),
            Token::Text(_) | Token::Literal(_) | Token::Symbol(_) => Err(self.error()),
        }
    }

    /// `[keyspace.]name`.
    pub fn qualified_name(&mut self) -> Result<(Option<String>, String), CqlError> {
        let first = self.name()?;
        if self.symbol('.') { Ok((Some(first), self.name()?)) } else { Ok((None, first)) }
    }
}

/// A term of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Term {
    Literal(String),
    /// Bind marker, by position.
    Marker(usize),
}

/// `column = term`, `column IN (terms)` or `column IN ?`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Equals(String, Term),
    In(String, Vec<Term>),
    InMarker(String, usize),
}

/// What a SELECT returns of each row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Selector {
    Column(String),
    Now,
    CountAll,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Select {
    pub keyspace: Option<String>,
    pub table: String,
    /// `None`: all columns.
    pub selectors: Option<Vec<Selector>>,
    pub conditions: Vec<Condition>,
    pub limit: Option<usize>,
}

pub(super) fn select(cursor: &mut Cursor) -> Result<Select, CqlError> {
    let selectors = selectors(cursor)?;
    cursor.expect_word("from")?;
    let (keyspace, table) = cursor.qualified_name()?;
    let mut select = Select { keyspace, table, selectors, conditions: Vec::new(), limit: None };
    if cursor.word("where") {
        loop {
            select.conditions.push(condition(cursor)?);
            if !cursor.word("and") {
                break;
            }
        }
    }
    while !cursor.at_end() {
        if cursor.word("limit") {
            match cursor.next()? {
                Token::Literal(n) => select.limit = n.parse().ok(),
                _ => return Err(cursor.error()),
            }
        } else if cursor.words(&["using", "timeout"]) {
            cursor.next()?;
        } else if !cursor.words(&["allow", "filtering"]) && !cursor.words(&["bypass", "cache"]) {
            return Err(cursor.error());
        }
    }
    Ok(select)
}

fn selectors(cursor: &mut Cursor) -> Result<Option<Vec<Selector>>, CqlError> {
    if cursor.symbol('*') {
        return Ok(None);
    }
    let mut selectors = Vec::new();
    loop {
        let name = cursor.name()?;
        selectors.push(if !cursor.symbol('(') {
            Selector::Column(name)
        } else if name == "now" {
            cursor.expect_symbol(')')?;
            Selector::Now
        } else if name == "count" {
            if !cursor.symbol('*') {
                cursor.next()?;
            }
            cursor.expect_symbol(')')?;
            Selector::CountAll
        } else {
            return Err(cursor.error());
        });
        if !cursor.symbol(',') {
            return Ok(Some(selectors));
        }
    }
}

fn condition(cursor: &mut Cursor) -> Result<Condition, CqlError> {
    let column = cursor.name()?;
    if cursor.symbol('=') {
        return Ok(Condition::Equals(column, term(cursor)?));
    }
    cursor.expect_word("in")?;
    if !cursor.symbol('(') {
        return match term(cursor)? {
            Term::Marker(at) => Ok(Condition::InMarker(column, at)),
            Term::Literal(_) => Err(cursor.error()),
        };
    }
    let mut terms = Vec::new();
    while !cursor.symbol(')') {
        terms.push(term(cursor)?);
        cursor.symbol(',');
    }
    Ok(Condition::In(column, terms))
}

pub(super) fn term(cursor: &mut Cursor) -> Result<Term, CqlError> {
    match cursor.next()? {
        Token::Text(text) | Token::Literal(text) | Token::Word(text) => Ok(Term::Literal(text)),
        Token::Symbol('?') => {
            cursor.markers += 1;
            Ok(Term::Marker(cursor.markers - 1))
        }
        Token::Quoted(_) | Token::Symbol(_) => Err(cursor.error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Select, CqlError> {
        let mut cursor = Cursor::new(text)?;
        cursor.expect_word("select")?;
        select(&mut cursor)
    }

    #[test]
    fn selects_of_driver_and_manager_parse() {
        let parsed = parse("SELECT now() FROM system.local WHERE key='local'").unwrap();
        assert_eq!(parsed.selectors, Some(vec![Selector::Now]));
        assert_eq!(parsed.conditions, [Condition::Equals("key".into(), Term::Literal("local".into()))]);
        let parsed = parse(
            "SELECT host_id, tokens FROM system.peers WHERE keyspace_name in ? AND \"A\" = ? USING TIMEOUT 2000ms;",
        )
        .unwrap();
        assert_eq!(
            parsed.conditions,
            [Condition::InMarker("keyspace_name".into(), 0), Condition::Equals("A".into(), Term::Marker(1))]
        );
        let id = "5e0e5a3c-0000-1000-8000-000000000001";
        let parsed = parse(&format!("select * from ks.t where id = {id} and n in (1, -2) limit 3")).unwrap();
        assert_eq!(parsed.limit, Some(3));
        assert_eq!(parsed.conditions[0], Condition::Equals("id".into(), Term::Literal(id.into())));
        assert!(parse("SELECT a FROM").is_err());
        assert!(parse("SELECT a FROM t WHERE b > 3").is_err());
        assert!(parse("SELECT a FROM t WHERE b = 'open").is_err());
    }
}
