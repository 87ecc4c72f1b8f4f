//! Parameters of a request: query first, then matrix parameters of the last path segment, then two headers.
//!
//! Follows the order and the leniency of oVirt Engine: text that is no number or no boolean is ignored, a parameter
//! without a value counts as `true`. Nothing here answers: a bad parameter is an absent one.

use http::HeaderMap;
use std::borrow::Cow;

/// Most parameters that are kept of one request; more are ignored.
const PARAMETERS_MAX: usize = 64;

/// The parameters of one request, in the order in which they win.
#[derive(Debug, Clone, Default)]
pub(crate) struct Params {
    pairs: Vec<(String, String)>,
}

impl Params {
    /// Collects the parameters of a request.
    pub(crate) fn collect(query: Option<&str>, matrix: Option<&str>, headers: &HeaderMap) -> Self {
        let mut pairs: Vec<(String, String)> = form_urlencoded::parse(query.unwrap_or_default().as_bytes())
            .take(PARAMETERS_MAX)
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        for part in matrix.unwrap_or_default().split(';').take(PARAMETERS_MAX) {
            pairs.extend(
                form_urlencoded::parse(part.as_bytes()).map(|(name, value)| (name.into_owned(), value.into_owned())),
            );
        }
        for (header, name) in [("filter", "filter"), ("all-content", "all_content")] {
            if let Some(value) = headers.get(header).and_then(|value| value.to_str().ok()) {
                pairs.push((name.to_owned(), value.trim().to_owned()));
            }
        }
        Self { pairs }
    }

    /// Adds a parameter behind what the URL says.
    pub(crate) fn add(&mut self, name: &str, value: &str) {
        self.pairs.push((name.to_owned(), value.to_owned()));
    }

    /// Adds the pairs of a form body behind what the URL says.
    pub(crate) fn add_form(&mut self, form: &[u8]) {
        self.pairs.extend(
            form_urlencoded::parse(form)
                .take(PARAMETERS_MAX)
                .map(|(name, value)| (name.into_owned(), value.into_owned())),
        );
    }

    /// The first value of a parameter; present without a value is the empty text.
    pub(crate) fn raw(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The value of a text parameter; an empty one is an absent one (some clients always send `search=`).
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.raw(name).map(str::trim).filter(|value| !value.is_empty())
    }

    /// A boolean; present without a value is `true`, other text is ignored.
    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        let value: Cow<'_, str> = self.raw(name)?.trim().to_ascii_lowercase().into();
        match value.as_ref() {
            "" | "t" | "true" | "y" | "yes" | "1" => Some(true),
            "f" | "false" | "n" | "no" | "0" => Some(false),
            _ => None,
        }
    }

    /// A whole number; other text is ignored.
    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        self.raw(name)?.trim().parse().ok()
    }

    /// `max`: the most items a list may have. Negative and invalid values mean no limit.
    pub(crate) fn max(&self) -> Option<usize> {
        usize::try_from(self.number("max")?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn params(query: &str, matrix: &str) -> Params {
        Params::collect(Some(query), Some(matrix), &HeaderMap::new())
    }

    #[test]
    fn the_query_wins_over_the_matrix_and_the_matrix_over_the_header() {
        let mut headers = HeaderMap::new();
        headers.insert("all-content", HeaderValue::from_static("true"));
        let params = Params::collect(Some("max=1"), Some("max=2;all_content=false"), &headers);
        assert_eq!(params.max(), Some(1));
        assert_eq!(params.flag("all_content"), Some(false));
        assert_eq!(
            Params::collect(None, None, &headers).flag("all_content"),
            Some(true),
            "the header counts where the URL says nothing"
        );
    }

    #[test]
    fn a_parameter_without_value_is_true_and_nonsense_is_absent() {
        assert_eq!(params("all_content", "").flag("all_content"), Some(true));
        assert_eq!(params("", "all_content").flag("all_content"), Some(true));
        assert_eq!(params("all_content=maybe", "").flag("all_content"), None);
        assert_eq!(params("max=abc", "").max(), None);
        assert_eq!(params("max=-1", "").max(), None);
        assert_eq!(params("max=0", "").max(), Some(0));
        assert_eq!(params("max=99999999999999999999999", "").max(), None);
    }

    #[test]
    fn an_empty_search_is_no_search() {
        assert_eq!(params("search=&follow=", "").text("search"), None);
        assert_eq!(params("search=name%3Ddb1", "").text("search"), Some("name=db1"));
    }
}
