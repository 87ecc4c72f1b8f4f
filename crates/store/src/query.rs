//! What a page of a list asks: visibility, filter and keyset, as SQL that both databases accept.

use rusqlite::types::Value;
use stillpoint_types::ProjectId;

/// A page of named things.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Only things of these projects; `None`: all.
    pub projects: Option<Vec<ProjectId>>,
    /// Names, as globs in which `*` is any run of characters; any of them must match. Empty: all.
    pub names: Vec<String>,
    /// Ids; any of them must match. Empty: all.
    pub ids: Vec<String>,
    /// Compare names with case.
    pub case_sensitive: bool,
    /// Begin after this (name, id).
    pub after: Option<(String, String)>,
    /// At most that many.
    pub limit: usize,
}

impl Query {
    /// The WHERE clause and its values.
    pub(crate) fn sql(&self, name: &str, id: &str, project: &str) -> (String, Vec<Value>) {
        let mut clauses = vec!["1 = 1".to_owned()];
        let mut values = Vec::new();
        if let Some(projects) = &self.projects {
            let marks: Vec<_> = projects.iter().map(|p| push(&mut values, p.to_string())).collect();
            clauses.push(format!("{project} IN ({})", marks.join(", ")));
        }
        if !self.names.is_empty() || !self.ids.is_empty() {
            let mut any: Vec<String> = Vec::new();
            for glob in &self.names {
                any.push(match (self.case_sensitive, glob.contains('*')) {
                    (true, false) => format!("{name} = {}", push(&mut values, glob.clone())),
                    // GLOB keeps the case; its other special characters are bracketed away.
                    (true, true) => format!(
                        "{name} GLOB {}",
                        push(&mut values, glob.replace('[', "[[]").replace('?', "[?]"))
                    ),
                    (false, _) => format!(
                        "{name} LIKE {} ESCAPE '\\'",
                        push(&mut values, crate::column::like(glob))
                    ),
                });
            }
            for wanted in &self.ids {
                any.push(format!("{id} = {}", push(&mut values, wanted.to_lowercase())));
            }
            clauses.push(format!("({})", any.join(" OR ")));
        }
        if let Some((after_name, after_id)) = &self.after {
            let (n, i) = (
                push(&mut values, after_name.clone()),
                push(&mut values, after_id.clone()),
            );
            clauses.push(format!("({name}, {id}) > ({n}, {i})"));
        }
        (clauses.join(" AND "), values)
    }
}

fn push(values: &mut Vec<Value>, text: String) -> String {
    values.push(Value::Text(text));
    format!("?{}", values.len())
}
