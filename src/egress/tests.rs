//! The judgement, and the corpus of tricks (tricks.txt): each of them is refused where it can be seen, and all of
//! them are when the connection is about to be made.

use std::sync::Mutex;

use super::*;
use crate::recipe::url_template::UrlTemplate;

fn rules(allow: Option<&[&str]>) -> Egress {
    let allow = allow.map(|entries| entries.iter().map(|entry| Allowed::from_text(entry).unwrap()).collect());
    Egress::new(allow, false, Arc::new(OnceLock::from(SocketAddr::from(([127, 0, 0, 1], 8700)))))
}

fn way(host: &str) -> Way {
    Way::new(host, 443, &ConnectTo::default())
}

fn detour(to: &str, port: u16) -> Way {
    Way::new("gis.vdot.gov", 443, &ConnectTo([(("gis.vdot.gov".to_owned(), 443), (to.to_owned(), port))].into()))
}

fn rule_of(egress: &Egress, way: &Way, address: &str) -> Option<Rule> {
    egress.judge(way, address.parse().unwrap()).err().map(|refused| refused.rule)
}

#[test]
fn partners_and_private_networks_are_targets_until_the_operator_says_which_are() {
    let private = ["10.1.2.3:443", "192.168.1.1:443", "172.16.0.9:22", "[fd12:3456::1]:443"];
    for address in ["203.0.113.7:443", "[2001:db8::7]:443"].iter().chain(&private) {
        assert_eq!(rule_of(&rules(None), &way("gis.vdot.gov"), address), None, "{address}");
        assert_eq!(rule_of(&rules(Some(&[])), &way("gis.vdot.gov"), address), Some(Rule::Allow), "{address}");
    }
    let allow = rules(Some(&["10.0.0.0/8", "GIS.vdot.gov."]));
    assert_eq!(rule_of(&allow, &way("other.example"), "10.9.9.9:443"), None);
    assert_eq!(rule_of(&allow, &way("other.example"), "[::ffff:10.9.9.9]:443"), None);
    assert_eq!(rule_of(&allow, &way("gis.vdot.gov"), "203.0.113.7:443"), None);
    assert_eq!(rule_of(&allow, &way("other.example"), "203.0.113.7:443"), Some(Rule::Allow));
    assert_eq!(rule_of(&rules(Some(&["staging.example"])), &detour("staging.example", 443), "203.0.113.7:443"), None);
}

#[test]
fn loopback_is_a_target_only_if_the_operator_wrote_exactly_that() {
    let (here, gis) = ("127.0.0.1:18443", way("gis.vdot.gov"));
    assert_eq!(rule_of(&rules(None), &gis, here), Some(Rule::Loopback));
    for entry in ["127.0.0.1", "127.0.0.0/8", "127.0.0.0/24"] {
        assert_eq!(rule_of(&rules(Some(&[entry])), &gis, here), None, "{entry}");
    }
    assert_eq!(rule_of(&rules(Some(&["localhost"])), &way("localhost"), here), None);
    // Whoever allows everything, or a partner's name, does not speak of this machine.
    for entry in ["0.0.0.0/0", "gis.vdot.gov", "localhost", "127.0.0.2", "::1"] {
        assert_eq!(rule_of(&rules(Some(&[entry])), &gis, here), Some(Rule::Loopback), "{entry}");
    }
    for to in ["127.0.0.1", "localhost"] {
        assert_eq!(rule_of(&rules(None), &detour(to, 18443), here), None, "{to}");
    }
    for (to, port) in [("127.0.0.2", 18443), ("127.0.0.1", 18444), ("staging.example", 18443)] {
        assert_eq!(rule_of(&rules(None), &detour(to, port), here), Some(Rule::Loopback), "{to}:{port}");
    }
    let insecure = Egress::new(None, true, Arc::default());
    assert_eq!(rule_of(&insecure, &gis, here), None);
    let both = Egress::new(Some(vec![Allowed::from_text("10.0.0.0/8").unwrap()]), true, Arc::default());
    assert_eq!(rule_of(&both, &gis, here), Some(Rule::Allow), "`egress.allow` restricts further");
}

#[test]
fn nothing_opens_the_way_to_what_is_never_a_target() {
    let own = "127.0.0.1:8700";
    let everything = ["0.0.0.0/0", "::/0", "127.0.0.0/8", "::1", "gis.vdot.gov", "localhost"];
    let allow = everything.map(|entry| Allowed::from_text(entry).unwrap()).to_vec();
    let open = Egress::new(Some(allow), true, Arc::new(OnceLock::from(own.parse::<SocketAddr>().unwrap())));
    for (address, rule) in [
        (own, Rule::Own),
        ("[::ffff:127.0.0.1]:8700", Rule::Own),
        ("169.254.169.254:80", Rule::Never),
        ("169.254.1.1:80", Rule::Never),
        ("[fe80::1]:80", Rule::Never),
        ("[fd00:ec2::254]:80", Rule::Never),
        ("0.0.0.0:80", Rule::Never),
        ("[::]:80", Rule::Never),
        ("224.0.0.1:80", Rule::Never),
        ("255.255.255.255:80", Rule::Never),
        ("[64:ff9b::7f00:1]:80", Rule::Never),
        ("[2002:a9fe:a9fe::]:80", Rule::Never),
    ] {
        let address: SocketAddr = address.parse().unwrap();
        let to = detour(&address.ip().to_string(), address.port());
        assert_eq!(open.judge(&to, address).err().map(|refused| refused.rule), Some(rule), "{address}");
    }
    assert_eq!(rule_of(&open, &way("localhost"), "127.0.0.1:8701"), None);
}

#[test]
fn a_node_that_listens_everywhere_is_at_every_address_of_its_machine() {
    for own in ["0.0.0.0:8700", "[::]:8700"] {
        let open = Egress::new(None, true, Arc::new(OnceLock::from(own.parse::<SocketAddr>().unwrap())));
        assert_eq!(rule_of(&open, &way("a.example"), "127.0.0.1:8700"), Some(Rule::Own), "{own}");
        assert_eq!(rule_of(&open, &way("a.example"), "127.0.0.1:8701"), None, "{own}");
        assert_eq!(rule_of(&open, &way("a.example"), "203.0.113.7:8700"), None, "{own}");
    }
}

#[test]
fn a_refusal_says_host_address_rule_and_what_to_write() {
    let words = |egress: &Egress, way: &Way, at: &str| egress.judge(way, at.parse().unwrap()).unwrap_err().to_string();
    let told = words(&rules(None), &way("gis.vdot.gov"), "127.0.0.1:443");
    for part in
        ["`gis.vdot.gov:443` is at 127.0.0.1:443", "a loopback address", "egress: {allow", "connect_to", "--insecure"]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
    let told = words(&rules(Some(&[])), &detour("10.0.0.1", 22), "10.0.0.1:22");
    assert!(told.contains("(by `connect_to`)") && told.contains("add `10.0.0.1` or `gis.vdot.gov`"), "{told}");
    let told = words(&rules(None), &way("a.example"), "[64:ff9b::a9fe:a9fe]:80");
    assert!(told.contains("169.254.169.254 (an address of a cloud's metadata service) in another form"), "{told}");
}

#[test]
fn what_is_no_entry_of_egress_allow_says_what_to_write_instead() {
    for (entry, help) in [
        ("*.vdot.gov", Some("no wildcards")),
        ("gis.vdot.gov:443", Some("without a port")),
        ("2130706433", Some("write the address as 127.0.0.1")),
        ("10.0.0.1/8", Some("did you mean `10.0.0.0/8`?")),
        ("169.254.0.0/16", Some("never a target")),
        ("https://gis.vdot.gov", Some("without a port")),
        ("a b", None),
        ("", None),
    ] {
        let found = Allowed::from_text(entry).unwrap_err();
        assert_eq!(
            found.as_deref().is_some_and(|found| found.contains(help.unwrap_or("?"))),
            help.is_some(),
            "{entry}"
        );
    }
}

/// A trick: a host, or the host and the addresses that a look-up gives for it.
struct Trick {
    host: &'static str,
    answers: Vec<SocketAddr>,
}

fn tricks() -> Vec<Trick> {
    let lines = include_str!("tricks.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let trick = |line: &'static str| {
        let (host, answers) = line.split_once(" => ").unwrap_or((line, ""));
        let answers = answers.split_whitespace().map(|ip| SocketAddr::new(ip.parse().unwrap(), 80)).collect();
        Trick { host, answers }
    };
    lines.map(trick).collect()
}

/// Gives the answers of a trick; what has none is looked up as the system does, without a network.
struct Told(Mutex<Vec<SocketAddr>>);

#[async_trait]
impl Names for Told {
    async fn look_up(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let told = std::mem::take(&mut *self.0.lock().unwrap());
        if told.is_empty() { System.look_up(host, port).await } else { Ok(told) }
    }
}

#[test]
fn the_corpus_has_a_hundred_tricks_and_each_only_once() {
    let hosts: std::collections::BTreeSet<_> = tricks().iter().map(|trick| (trick.host, trick.answers.len())).collect();
    assert!(tricks().len() >= 100, "{}", tricks().len());
    assert_eq!(hosts.len(), tricks().len());
}

/// As a recipe's url, and as the host of an SFTP target: refused by the grammar or by the rules.
#[test]
fn every_trick_that_can_be_seen_is_refused_where_a_recipe_is_checked() {
    for trick in tricks().iter().filter(|trick| trick.answers.is_empty()) {
        let url = format!("http://{}/", trick.host);
        let as_url = UrlTemplate::from_text(&url).ok().is_none_or(|template| {
            let url = url::Url::parse(&template.text).unwrap();
            let host = url.host_str().unwrap().trim_matches(['[', ']']).to_owned();
            rules(None).at_sight(&Way::new(&host, url.port_or_known_default().unwrap(), &ConnectTo::default())).is_err()
        });
        assert!(as_url, "{url}");
    }
}

#[tokio::test]
async fn every_trick_is_refused_when_the_connection_is_about_to_be_made() {
    for trick in tricks() {
        let egress = rules(None).with_names(Arc::new(Told(Mutex::new(trick.answers.clone()))));
        let port = if trick.host.ends_with(":8700") { 8700 } else { 80 };
        let way = Way::new(trick.host.trim_end_matches(":8700").trim_matches(['[', ']']), port, &ConnectTo::default());
        match egress.look_up(&way).await {
            // What the system knows no address of is not connected to either.
            Err(_) => assert!(trick.answers.is_empty(), "{}", trick.host),
            Ok(found) => assert!(egress.permit(&way, found.clone()).is_err(), "{}: {found:?}", trick.host),
        }
    }
}

/// Only what was judged is given out: an answer that mixes good and bad loses the bad.
#[test]
fn of_several_addresses_only_those_are_left_that_may_be_connected_to() {
    let found = ["127.0.0.1:443", "203.0.113.7:443", "169.254.169.254:443"].map(|at| at.parse().unwrap()).to_vec();
    let permitted = rules(None).permit(&way("gis.vdot.gov"), found).unwrap();
    assert_eq!(permitted, ["203.0.113.7:443".parse().unwrap()]);
}
