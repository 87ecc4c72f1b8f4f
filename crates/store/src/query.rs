//! A page of a list: visibility, search, order and place, as SQL that both databases accept.

use crate::{
    Conn, Find, Stored,
    find::{Sort, Table, push},
};
use rusqlite::{Row, types::Value};
use stillpoint_types::ProjectId;

/// What a page of a list asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Only things of these projects; `None`: all.
    pub projects: Option<Vec<ProjectId>>,
    /// Which rows.
    pub find: Find,
    /// In which order; `None`: the noun's own.
    pub sort: Option<Sort>,
    /// Begin after this row, as [`Rows::next`] gave it.
    pub after: Option<(String, String)>,
    /// Pass over that many rows first.
    pub skip: usize,
    /// At most that many.
    pub limit: usize,
}

/// A page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows<R> {
    /// Its rows.
    pub rows: Vec<R>,
    /// Where the next page begins; `None`: this is the last one.
    pub next: Option<(String, String)>,
}

impl Query {
    /// Reads the page of a noun, in one statement.
    pub(crate) fn read<R>(
        &self,
        conn: &Conn,
        table: &Table,
        row: impl Fn(&Row<'_>) -> rusqlite::Result<R>,
    ) -> Stored<Rows<R>> {
        let (text, values) = self.sql(table)?;
        let mut statement = conn.sql().prepare_cached(&text)?;
        let mut found = statement.query(rusqlite::params_from_iter(values))?;
        let mut rows = Vec::new();
        let mut last = None;
        while let Some(line) = found.next()? {
            let place: (Value, Value) = (line.get("place_order")?, line.get("place_id")?);
            last = Some((shown(place.0), shown(place.1)));
            rows.push(row(line)?);
        }
        let next = last.filter(|_| self.limit > 0 && rows.len() == self.limit);
        Ok(Rows { rows, next })
    }

    fn sql(&self, table: &Table) -> Stored<(String, Vec<Value>)> {
        let mut values = Vec::new();
        let mut clauses = Vec::new();
        if let Some(projects) = &self.projects {
            let marks: Vec<_> = projects
                .iter()
                .map(|project| push(&mut values, Value::Text(project.to_string())))
                .collect();
            clauses.push(format!("{} IN ({})", table.project, marks.join(", ")));
        }
        clauses.push(self.find.sql(table, &mut values)?);
        let sort = self.sort.unwrap_or(table.order);
        let column = table.column(sort.field)?;
        let order = match (self.sort, column.number) {
            // The noun's own order is by a column that is never empty, and has an index.
            (None, _) => column.sql.to_owned(),
            (Some(_), true) => format!("coalesce({}, 0)", column.sql),
            (Some(_), false) => format!("coalesce({}, '')", column.sql),
        };
        let (direction, beyond) = if sort.descending { ("DESC", "<") } else { ("ASC", ">") };
        if let Some((after, id)) = &self.after {
            let (after, id) = (
                push(&mut values, placed(after, column.number)),
                push(&mut values, placed(id, table.column("id")?.number)),
            );
            clauses.push(format!("({order}, {}) {beyond} ({after}, {id})", table.id));
        }
        let text = format!(
            "SELECT {name}.*, {order} AS place_order, {id} AS place_id FROM {name} WHERE {wheres}
             ORDER BY {order} {direction}, {id} {direction} LIMIT {limit} OFFSET {skip}",
            name = table.name,
            id = table.id,
            wheres = clauses.join(" AND "),
            limit = self.limit,
            skip = i64::try_from(self.skip).unwrap_or(i64::MAX),
        );
        Ok((text, values))
    }
}

/// A place as text, so that it can be carried about.
fn shown(value: Value) -> String {
    match value {
        Value::Text(text) => text,
        Value::Integer(number) => number.to_string(),
        // No column that orders holds these.
        Value::Null | Value::Real(_) | Value::Blob(_) => String::new(),
    }
}

/// The same back again. Text that is no number comes from nobody but this room, and means the beginning.
fn placed(text: &str, number: bool) -> Value {
    if number {
        Value::Integer(text.parse().unwrap_or_default())
    } else {
        Value::Text(text.to_owned())
    }
}
