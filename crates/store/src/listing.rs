//! A page of a list of the volume APIs: conditions, an order by several keys, and a thing to begin after, as SQL.
//!
//! Unlike a [`crate::Query`] its texts have no wildcards, a page begins after a thing that the client names, and all that
//! fit can be counted. Names of fields are words of the program and stand in the text; values never do.

use crate::{
    Conn, StoreError, Stored,
    find::{Table, push},
};
use rusqlite::{OptionalExtension, Row, types::Value};
use stillpoint_types::ProjectId;

/// One condition on rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// A field is one of them.
    In(&'static str, Vec<String>),
    /// A text contains another, without regard to the case of ASCII.
    Like(&'static str, String),
    /// A number or an instant compared, by `<`, `<=`, `>`, `>=`, `=` or `<>`.
    Compare(&'static str, &'static str, i64),
    /// It has all these pairs.
    Pairs(Vec<(String, String)>),
    /// Nothing fits.
    Nothing,
}

/// Where a page begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// After the thing of that id.
    pub marker: Option<String>,
    /// Then pass over that many.
    pub offset: u64,
    /// At most that many.
    pub limit: u64,
}

/// What such a list asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Only things of these projects; `None`: all.
    pub projects: Option<Vec<ProjectId>>,
    /// All of these hold.
    pub tests: Vec<Test>,
    /// Keys, and whether each is descending; the id is the last one. Empty: newest first.
    pub sort: Vec<(&'static str, bool)>,
    /// Where it begins.
    pub place: Place,
}

/// A noun that can be listed so.
#[derive(Debug)]
pub(crate) struct Shelf {
    /// Its fields.
    pub(crate) table: &'static Table,
    /// What is read of each row.
    pub(crate) columns: &'static str,
    /// From where.
    pub(crate) from: &'static str,
    /// Whether it has a pair: `{key}` and `{value}` stand for the marks.
    pub(crate) pairs: &'static str,
    /// Fields that are never NULL: they are compared as they are, so that their indexes serve.
    pub(crate) never_null: &'static [&'static str],
}

impl Listing {
    /// The page.
    ///
    /// # Errors
    /// `BadValue` for a field that the noun does not have; `None` where the marker is not there.
    pub(crate) fn read<R>(
        &self,
        conn: &Conn,
        shelf: &Shelf,
        row: impl Fn(&Row<'_>) -> rusqlite::Result<R>,
    ) -> Stored<Option<Vec<R>>> {
        let mut values = Vec::new();
        let mut clauses = self.clauses(shelf, &mut values)?;
        let keys = self.keys(shelf)?;
        if let Some(marker) = &self.place.marker {
            let Some(at) = self.marked(conn, shelf, &keys, marker)? else {
                return Ok(None);
            };
            clauses.push(beyond(&keys, at, &mut values));
        }
        let order: Vec<String> = keys
            .iter()
            .map(|(sql, descending)| format!("{sql} {}", if *descending { "DESC" } else { "ASC" }))
            .collect();
        let text = format!(
            "SELECT {} FROM {} WHERE {} ORDER BY {} LIMIT {} OFFSET {}",
            shelf.columns,
            shelf.from,
            clauses.join(" AND "),
            order.join(", "),
            crate::column::stored(self.place.limit),
            crate::column::stored(self.place.offset),
        );
        let mut statement = conn.sql().prepare_cached(&text)?;
        let rows = statement.query_map(rusqlite::params_from_iter(values), row)?;
        Ok(Some(rows.collect::<Result<_, _>>()?))
    }

    /// How many fit, wherever the page begins.
    pub(crate) fn count(&self, conn: &Conn, shelf: &Shelf) -> Stored<u64> {
        let mut values = Vec::new();
        let clauses = self.clauses(shelf, &mut values)?;
        let text = format!(
            "SELECT count(*) AS n FROM {} WHERE {}",
            shelf.from,
            clauses.join(" AND ")
        );
        Ok(conn
            .sql()
            .prepare_cached(&text)?
            .query_row(rusqlite::params_from_iter(values), |row| {
                crate::column::quantity(row, "n")
            })?)
    }

    /// Whose, and which.
    fn clauses(&self, shelf: &Shelf, values: &mut Vec<Value>) -> Stored<Vec<String>> {
        let mut clauses = vec![match &self.projects {
            None => "1 = 1".to_owned(),
            Some(projects) => one_of(shelf.table.project, projects.iter().map(ToString::to_string), values),
        }];
        for test in &self.tests {
            clauses.push(condition(test, shelf, values)?);
        }
        Ok(clauses)
    }

    /// What it is ordered by, the id last.
    fn keys(&self, shelf: &Shelf) -> Stored<Vec<(String, bool)>> {
        let newest: &[_] = &[(shelf.table.order.field, shelf.table.order.descending)];
        let sort = if self.sort.is_empty() { newest } else { &self.sort };
        let mut keys = Vec::with_capacity(sort.len() + 1);
        for (field, descending) in sort {
            let column = shelf.table.column(field)?;
            let sql = match (shelf.never_null.contains(field), column.number) {
                (true, _) => column.sql.to_owned(),
                (false, true) => format!("coalesce({}, 0)", column.sql),
                (false, false) => format!("coalesce({}, '')", column.sql),
            };
            keys.push((sql, *descending));
        }
        if !sort.iter().any(|(field, _)| *field == "id") {
            let direction = sort.first().is_some_and(|(_, descending)| *descending);
            keys.push((shelf.table.id.to_owned(), direction));
        }
        Ok(keys)
    }

    /// The keys of the thing that the page begins after, if it can be seen.
    fn marked(&self, conn: &Conn, shelf: &Shelf, keys: &[(String, bool)], id: &str) -> Stored<Option<Vec<Value>>> {
        let mut values = Vec::new();
        let seen = Self {
            projects: self.projects.clone(),
            ..Self::default()
        };
        let mut clauses = seen.clauses(shelf, &mut values)?;
        let mark = push(&mut values, Value::Text(id.to_owned()));
        clauses.push(format!("{} = {mark}", shelf.table.id));
        let columns: Vec<&str> = keys.iter().map(|(sql, _)| sql.as_str()).collect();
        let text = format!(
            "SELECT {} FROM {} WHERE {}",
            columns.join(", "),
            shelf.from,
            clauses.join(" AND ")
        );
        let read = |row: &Row<'_>| (0..keys.len()).map(|at| row.get(at)).collect();
        Ok(conn
            .sql()
            .prepare_cached(&text)?
            .query_row(rusqlite::params_from_iter(values), read)
            .optional()?)
    }
}

/// What comes after a place in an order. Where all keys go one way it is one comparison of rows, which an index serves.
fn beyond(keys: &[(String, bool)], at: Vec<Value>, values: &mut Vec<Value>) -> String {
    let marks: Vec<String> = at.into_iter().map(|value| push(values, value)).collect();
    let sign = |descending: bool| if descending { "<" } else { ">" };
    let first = keys.first().is_some_and(|(_, descending)| *descending);
    if keys.iter().all(|(_, descending)| *descending == first) {
        let names: Vec<&str> = keys.iter().map(|(sql, _)| sql.as_str()).collect();
        return format!("({}) {} ({})", names.join(", "), sign(first), marks.join(", "));
    }
    let mut ways = Vec::with_capacity(keys.len());
    for (last, (sql, descending)) in keys.iter().enumerate() {
        let mut way: Vec<String> = keys
            .iter()
            .zip(&marks)
            .take(last)
            .map(|((sql, _), mark)| format!("{sql} = {mark}"))
            .collect();
        way.extend(
            marks
                .get(last)
                .map(|mark| format!("{sql} {} {mark}", sign(*descending))),
        );
        ways.push(format!("({})", way.join(" AND ")));
    }
    format!("({})", ways.join(" OR "))
}

fn one_of(sql: &str, members: impl Iterator<Item = String>, values: &mut Vec<Value>) -> String {
    let marks: Vec<String> = members.map(|text| push(values, Value::Text(text))).collect();
    match marks.as_slice() {
        [] => "1 = 0".to_owned(),
        [one] => format!("{sql} = {one}"),
        many => format!("{sql} IN ({})", many.join(", ")),
    }
}

fn condition(test: &Test, shelf: &Shelf, values: &mut Vec<Value>) -> Stored<String> {
    match test {
        Test::Nothing => Ok("1 = 0".to_owned()),
        Test::In(field, members) => {
            let column = shelf.table.column(field)?;
            let inside = if column.number {
                let marks: Vec<String> = members
                    .iter()
                    .filter_map(|text| text.parse().ok())
                    .map(|number| push(values, Value::Integer(number)))
                    .collect();
                // What is no number equals none.
                format!("{} IN ({})", column.sql, marks.join(", "))
            } else {
                one_of(column.sql, members.iter().cloned(), values)
            };
            Ok(match column.through {
                Some(through) => format!("EXISTS ({})", through.replace("{}", &inside)),
                None => inside,
            })
        }
        Test::Like(field, text) => {
            let mut pattern = "%".to_owned();
            for c in text.chars() {
                if matches!(c, '%' | '_' | '\\') {
                    pattern.push('\\');
                }
                pattern.push(c);
            }
            pattern.push('%');
            let column = shelf.table.column(field)?;
            let mark = push(values, Value::Text(pattern));
            let inside = format!("{} LIKE {mark} ESCAPE '\\'", column.sql);
            Ok(match column.through {
                Some(through) => format!("EXISTS ({})", through.replace("{}", &inside)),
                None => inside,
            })
        }
        Test::Compare(field, sign, number) => {
            if !["<", "<=", ">", ">=", "=", "<>"].contains(sign) {
                return Err(StoreError::BadValue(format!("{sign} compares nothing")));
            }
            let column = shelf.table.column(field)?;
            Ok(format!(
                "{} {sign} {}",
                column.sql,
                push(values, Value::Integer(*number))
            ))
        }
        Test::Pairs(pairs) => {
            let mut parts = vec!["1 = 1".to_owned()];
            for (key, value) in pairs {
                let key = push(values, Value::Text(key.clone()));
                let value = push(values, Value::Text(value.clone()));
                parts.push(shelf.pairs.replace("{key}", &key).replace("{value}", &value));
            }
            Ok(format!("({})", parts.join(" AND ")))
        }
    }
}
