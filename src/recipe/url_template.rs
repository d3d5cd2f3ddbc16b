//! The url of a REST target: `http` or `https`, with `{field}` in path and query only, so that no event can
//! choose the host that it goes to.

use url::Url;

use crate::yaml::diagnostics::quoted;
use crate::yaml::values::FromText;

/// A checked url, possibly with `{field}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlTemplate {
    pub text: String,
    /// The fields whose values are put in.
    pub fields: Vec<String>,
}

/// Stands for a field's value while the url around it is parsed: the parser leaves it as it is.
const STAND_IN: &str = "x7f3field";

impl FromText for UrlTemplate {
    const EXPECTED: &'static str = "a url such as https://partner.example/api";

    fn from_text(text: &str) -> Result<Self, Option<String>> {
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(Some("a url has no white space or control characters".to_owned()));
        }
        let (plain, fields) = without_fields(text).map_err(Some)?;
        if !plain.contains("://") {
            return Err(Some("it must begin with https:// or http://".to_owned()));
        }
        let url = Url::parse(&plain).map_err(|error| Some(error.to_string()))?;
        check(&url).map_err(Some)?;
        Ok(Self { text: text.to_owned(), fields })
    }

    fn show(text: &str) -> Option<String> {
        (!text.contains('@')).then(|| quoted(text))
    }

    fn pattern() -> Option<&'static str> {
        Some("^https?://")
    }
}

fn without_fields(text: &str) -> Result<(String, Vec<String>), String> {
    let mut plain = String::new();
    let mut fields = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find(['{', '}']) {
        let close = rest[open..].find('}').map(|length| open + length).filter(|close| *close > open + 1);
        let Some(close) = close else {
            return Err("`{` and `}` enclose the name of a field".to_owned());
        };
        plain.push_str(&rest[..open]);
        plain.push_str(STAND_IN);
        fields.push(rest[open + 1..close].to_owned());
        rest = &rest[close + 1..];
    }
    plain.push_str(rest);
    Ok((plain, fields))
}

fn check(url: &Url) -> Result<(), String> {
    let authority =
        [url.scheme(), url.username(), url.password().unwrap_or_default(), url.host_str().unwrap_or_default()];
    if authority.iter().any(|part| part.contains(STAND_IN)) {
        return Err("`{field}` may stand in path and query only: no event chooses where it goes".to_owned());
    }
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("the scheme must be http or https, not {}", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "credentials do not belong in a url: use `auth`, the secret is looked up when it is needed".to_owned()
        );
    }
    if url.fragment().is_some() {
        return Err("a url that is requested has no `#…`".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_may_stand_in_path_and_query() {
        let url = UrlTemplate::from_text("https://gis.vdot.gov:8443/api/{grant_id}?s={status}").unwrap();
        assert_eq!(url.fields, ["grant_id", "status"]);
    }

    #[test]
    fn no_event_can_choose_where_it_goes() {
        for text in [
            "https://{host}/api",
            "https://gis.{zone}.gov/api",
            "{scheme}://gis.vdot.gov/",
            "https://{user}@gis.vdot.gov/",
            "https://gis.vdot.gov:{port}/",
            "https://gis.vdot.gov{rest}/",
        ] {
            assert!(UrlTemplate::from_text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_http_url_is_refused() {
        for text in [
            "",
            "gis",
            "/api",
            "ftp://a/b",
            "https://",
            "https://u:p@a/",
            "https://a/#x",
            "https://a/ b",
            "https://a/{",
            "https://a/{}",
        ] {
            assert!(UrlTemplate::from_text(text).is_err(), "{text}");
        }
    }
}
