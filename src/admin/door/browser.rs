//! Where no token is asked for, a browser on the machine could be made to ask: by a page of anybody's that sends
//! requests to loopback, or by a name of theirs that resolves to it (DNS rebinding). Neither gets through: the request
//! has to name a loopback host, and what a page of another origin sends says so.

use actix_web::HttpRequest;
use actix_web::http::header::{HOST, HeaderName, ORIGIN};
use url::{Host, Url};

use crate::admin::problem::AdminError;

const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

pub fn refuse_pages(request: &HttpRequest) -> Result<(), AdminError> {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let own = format!("{}://{host}", if request.app_config().secure() { "https" } else { "http" });
    let own = Url::parse(&own).ok().filter(is_loopback);
    let Some(own) = own else {
        return Err(AdminError::forbidden(format!(
            "with --insecure-loopback a request has to name a loopback host such as 127.0.0.1 or localhost, this one names `{host}`"
        )));
    };
    let mut origins = request.headers().get_all(ORIGIN);
    let foreign_origin = origins.any(|origin| {
        let origin = origin.to_str().ok().and_then(|origin| Url::parse(origin).ok());
        origin.is_none_or(|origin| origin.origin() != own.origin())
    });
    let mut sites = request.headers().get_all(SITE);
    if foreign_origin || sites.any(|site| !matches!(site.as_bytes(), b"same-origin" | b"none")) {
        let detail = "with --insecure-loopback no web page of another origin may talk to the node";
        return Err(AdminError::forbidden(detail));
    }
    Ok(())
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.trim_end_matches('.') == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn passes(headers: &[(&str, &str)]) -> bool {
        let request = headers.iter().fold(TestRequest::get(), |request, &header| request.insert_header(header));
        refuse_pages(&request.to_http_request()).is_ok()
    }

    #[test]
    fn only_loopback_hosts_are_served() {
        for host in ["127.0.0.1:8700", "127.9.9.9", "localhost:8700", "LOCALHOST", "[::1]:8700", "hms.localhost:1"] {
            assert!(passes(&[("host", host)]), "{host}");
        }
        for host in [
            "",
            "rebound.example:8700",
            "127.0.0.1.rebound.example",
            "localhost.example",
            "notlocalhost",
            "10.0.0.1",
            "0.0.0.0:8700",
            "[::]:8700",
            "user@127.0.0.1@rebound.example",
            "169.254.169.254",
        ] {
            assert!(!passes(&[("host", host)]), "{host}");
        }
        assert!(!passes(&[]));
    }

    #[test]
    fn a_page_of_another_origin_is_refused_and_one_of_ours_is_not() {
        let host = ("host", "localhost:8700");
        for origin in ["https://evil.example", "null", "http://localhost:3000", "http://127.0.0.1:8700", "x", ""] {
            assert!(!passes(&[host, ("origin", origin)]), "{origin}");
        }
        for site in ["cross-site", "same-site", "", "nonsense"] {
            assert!(!passes(&[host, ("sec-fetch-site", site)]), "{site}");
        }
        assert!(passes(&[host, ("origin", "http://localhost:8700"), ("sec-fetch-site", "same-origin")]));
        assert!(passes(&[host, ("sec-fetch-site", "none")]));
    }
}
