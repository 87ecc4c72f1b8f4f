//! A page of a list of the volume APIs: conditions, several sort keys, a marker, an offset, as one statement.
//!
//! Names of fields are words of the program and stand in the text; values come from clients and never do.

use crate::{Conn, StoreError, Stored, find::push};
use rusqlite::{OptionalExtension, Row, types::Value};
use stillpoint_types::ProjectId;

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// A field is one of these texts (of a number: of what they spell).
    In(&'static str, Vec<String>),
    /// A field contains the text; ASCII letters are compared without case.
    Like(&'static str, String),
    /// A number or instant compares so: `<`, `<=`, `>`, `>=`, `=`, `<>`.
    Compare(&'static str, &'static str, i64),
    /// All these pairs are in the metadata.
    Pairs(Vec<(String, String)>),
    /// Nothing fits.
    Nothing,
}

/// What is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Only of these projects; `None`: of all.
    pub projects: Option<Vec<ProjectId>>,
    /// All of these hold.
    pub tests: Vec<Test>,
    /// Keys, and whether each is descending; the id is added with the last one's direction. Empty: newest first.
    pub sort: Vec<(&'static str, bool)>,
    /// Begin after the thing of that id.
    pub marker: Option<String>,
    /// Then pass over that many.
    pub offset: u64,
    /// At most that many.
    pub limit: u64,
    /// Count all that fit, too.
    pub count: bool,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedRows<R> {
    /// The page.
    pub rows: Vec<R>,
    /// How many fit in all, if that was asked.
    pub count: Option<u64>,
}

/// A field.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) sql: String,
    pub(crate) number: bool,
    pub(crate) nullable: bool,
}

impl Field {
    pub(crate) fn text(name: &'static str, sql: impl Into<String>) -> Self {
        Self {
            name,
            sql: sql.into(),
            number: false,
            nullable: false,
        }
    }

    pub(crate) fn number(name: &'static str, sql: impl Into<String>) -> Self {
        Self {
            number: true,
            ..Self::text(name, sql)
        }
    }

    pub(crate) fn nullable(self) -> Self {
        Self { nullable: true, ..self }
    }

    /// As an order has it: what has no value comes before all that have one.
    fn ordered(&self) -> String {
        match (self.nullable, self.number) {
            (false, _) => self.sql.clone(),
            (true, true) => format!("coalesce({}, 0)", self.sql),
            (true, false) => format!("coalesce({}, '')", self.sql),
        }
    }
}

/// Where a list comes from. Its fields `id` and `created_at` must be there.
#[derive(Debug)]
pub(crate) struct Source {
    /// What follows FROM; the thing's own table is `v` in it.
    pub(crate) from: &'static str,
    /// The project, as SQL; with an unary `+` where another index shall be taken.
    pub(crate) project: &'static str,
    /// The metadata, as SQL: a JSON object of texts.
    pub(crate) metadata: &'static str,
    pub(crate) fields: Vec<Field>,
}

impl Source {
    fn field(&self, name: &str) -> Stored<&Field> {
        let found = self.fields.iter().find(|field| field.name == name);
        found.ok_or_else(|| StoreError::BadValue(format!("{} has no field {name}", self.from)))
    }

    /// The condition of the projects.
    fn visible(&self, projects: Option<&[ProjectId]>, values: &mut Vec<Value>) -> String {
        let Some(projects) = projects else {
            return "1 = 1".into();
        };
        match projects {
            [] => "1 = 0".into(),
            [one] => format!("{} = {}", self.project, push(values, Value::Text(one.to_string()))),
            many => {
                let marks = marks(many.iter().map(|id| Value::Text(id.to_string())), values);
                format!("{} IN ({marks})", self.project)
            }
        }
    }

    fn test(&self, test: &Test, values: &mut Vec<Value>) -> Stored<String> {
        Ok(match test {
            Test::Nothing => "1 = 0".into(),
            Test::In(name, members) => {
                let field = self.field(name)?;
                let value = |text: &String| match (field.number, text.parse::<i64>()) {
                    (true, Ok(number)) => Some(Value::Integer(number)),
                    (true, Err(_)) => None,
                    (false, _) => Some(Value::Text(text.clone())),
                };
                let members: Vec<Value> = members.iter().filter_map(value).collect();
                match members.as_slice() {
                    [] => "1 = 0".into(),
                    [one] => format!("{} = {}", field.sql, push(values, one.clone())),
                    _ => format!("{} IN ({})", field.sql, marks(members, values)),
                }
            }
            Test::Like(name, text) => {
                let mut pattern = String::from("%");
                for c in text.chars() {
                    if matches!(c, '%' | '_' | '\\') {
                        pattern.push('\\');
                    }
                    pattern.push(c);
                }
                pattern.push('%');
                let pattern = push(values, Value::Text(pattern));
                format!("{} LIKE {pattern} ESCAPE '\\'", self.field(name)?.sql)
            }
            Test::Compare(name, symbol, number) => {
                let symbol = ["<", "<=", ">", ">=", "=", "<>"].into_iter().find(|of| of == symbol);
                let symbol = symbol.ok_or_else(|| StoreError::BadValue("a comparison of an unknown kind".into()))?;
                format!(
                    "{} {symbol} {}",
                    self.field(name)?.sql,
                    push(values, Value::Integer(*number))
                )
            }
            Test::Pairs(pairs) => {
                let mut parts = vec!["1 = 1".to_owned()];
                for (key, value) in pairs {
                    let (key, value) = (
                        push(values, Value::Text(key.clone())),
                        push(values, Value::Text(value.clone())),
                    );
                    let from = format!("json_each({}) AS pair", self.metadata);
                    parts.push(format!(
                        "EXISTS (SELECT 1 FROM {from} WHERE pair.key = {key} AND pair.value = {value})"
                    ));
                }
                parts.join(" AND ")
            }
        })
    }

    /// The sort keys with the id at the end, as SQL.
    fn order(&self, sort: &[(&'static str, bool)]) -> Stored<Vec<(String, bool)>> {
        let sort = if sort.is_empty() { &[("created_at", true)] } else { sort };
        let mut keys = Vec::new();
        for (name, descending) in sort {
            keys.push((self.field(name)?.ordered(), *descending));
        }
        if !sort.iter().any(|(name, _)| *name == "id") {
            let descending = sort.last().is_none_or(|(_, descending)| *descending);
            keys.push((self.field("id")?.ordered(), descending));
        }
        Ok(keys)
    }

    /// Reads a page; `None`: the marker is not there. `unfiltered`: how many there are without any condition, if that can be
    /// told without counting.
    pub(crate) fn read<R>(
        &self,
        conn: &Conn,
        asked: &Listing,
        unfiltered: impl FnOnce() -> Stored<u64>,
        row: impl Fn(&Row<'_>) -> rusqlite::Result<R>,
    ) -> Stored<Option<ListedRows<R>>> {
        let mut values = Vec::new();
        let mut clauses = vec![self.visible(asked.projects.as_deref(), &mut values)];
        for test in &asked.tests {
            clauses.push(self.test(test, &mut values)?);
        }
        let count = match (asked.count, asked.tests.is_empty()) {
            (false, _) => None,
            (true, true) => Some(unfiltered()?),
            (true, false) => Some(self.count(conn, &clauses, &values)?),
        };
        let keys = self.order(&asked.sort)?;
        if let Some(marker) = &asked.marker {
            let Some(place) = self.place(conn, asked, marker, &keys)? else {
                return Ok(None);
            };
            clauses.push(beyond(&keys, place, &mut values));
        }
        let order: Vec<_> = keys
            .iter()
            .map(|(sql, descending)| format!("{sql} {}", if *descending { "DESC" } else { "ASC" }))
            .collect();
        let number = |value: u64| Value::Integer(i64::try_from(value).unwrap_or(i64::MAX));
        let (limit, offset) = (
            push(&mut values, number(asked.limit)),
            push(&mut values, number(asked.offset)),
        );
        let sql = format!(
            "SELECT v.* FROM {} WHERE {} ORDER BY {} LIMIT {limit} OFFSET {offset}",
            self.from,
            clauses.join(" AND "),
            order.join(", ")
        );
        let mut statement = conn.sql().prepare_cached(&sql)?;
        let rows = statement
            .query_map(rusqlite::params_from_iter(values), row)?
            .collect::<Result<_, _>>()?;
        Ok(Some(ListedRows { rows, count }))
    }

    fn count(&self, conn: &Conn, clauses: &[String], values: &[Value]) -> Stored<u64> {
        let sql = format!(
            "SELECT count(*) AS many FROM {} WHERE {}",
            self.from,
            clauses.join(" AND ")
        );
        let values = rusqlite::params_from_iter(values);
        Ok(conn
            .sql()
            .prepare_cached(&sql)?
            .query_row(values, |row| crate::column::quantity(row, "many"))?)
    }

    /// The marker's sort keys.
    fn place(&self, conn: &Conn, asked: &Listing, marker: &str, keys: &[(String, bool)]) -> Stored<Option<Vec<Value>>> {
        let mut values = Vec::new();
        let visible = self.visible(asked.projects.as_deref(), &mut values);
        let id = push(&mut values, Value::Text(marker.to_owned()));
        let columns: Vec<_> = keys.iter().map(|(sql, _)| sql.as_str()).collect();
        let sql = format!(
            "SELECT {} FROM {} WHERE {visible} AND {} = {id}",
            columns.join(", "),
            self.from,
            self.field("id")?.sql
        );
        let read = |row: &Row<'_>| (0..keys.len()).map(|at| row.get::<_, Value>(at)).collect();
        Ok(conn
            .sql()
            .prepare_cached(&sql)?
            .query_row(rusqlite::params_from_iter(values), read)
            .optional()?)
    }
}

fn marks(members: impl IntoIterator<Item = Value>, values: &mut Vec<Value>) -> String {
    let marks: Vec<_> = members.into_iter().map(|value| push(values, value)).collect();
    marks.join(", ")
}

/// What comes after a place. With one direction that is one comparison, which an index answers.
fn beyond(keys: &[(String, bool)], place: Vec<Value>, values: &mut Vec<Value>) -> String {
    let marks: Vec<_> = place.into_iter().map(|value| push(values, value)).collect();
    let symbol = |descending: bool| if descending { "<" } else { ">" };
    let first = keys.first().is_none_or(|(_, descending)| *descending);
    if keys.iter().all(|(_, descending)| *descending == first) {
        let columns: Vec<_> = keys.iter().map(|(sql, _)| sql.as_str()).collect();
        return format!("({}) {} ({})", columns.join(", "), symbol(first), marks.join(", "));
    }
    let mut ways = Vec::new();
    for (at, (key, descending)) in keys.iter().enumerate() {
        let mut way: Vec<String> = keys
            .iter()
            .zip(&marks)
            .take(at)
            .map(|((key, _), mark)| format!("{key} = {mark}"))
            .collect();
        way.extend(
            marks
                .get(at)
                .map(|mark| format!("{key} {} {mark}", symbol(*descending))),
        );
        ways.push(format!("({})", way.join(" AND ")));
    }
    format!("({})", ways.join(" OR "))
}
