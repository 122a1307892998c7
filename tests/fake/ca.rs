//! A CA that keeps to RFC 8555 (nonces, signatures, states, requests are checked) and lives in memory, with weather.

mod bound;
mod chains;
mod keys;

use super::hands::Hands;
use super::responder::{Responder, TestCa, access};
use super::zone::Zone;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use edgemd::doors::clock::{Clock, Knock};
use edgemd::doors::https::{Line, Route, Wire};
use edgemd::rules::acme::advice;
use edgemd::rules::acme::jws::Jwk;
use edgemd::rules::acme::types::{Method, Reply, Request};
use edgemd::rules::txt::Txt;
use edgemd::rules::{pem, x509};
use edgemd::words::answers::Answers;
use edgemd::words::cert::KeyKind;
use edgemd::words::fault::Trouble;
use edgemd::words::name::{Labels, Name};
use edgemd::words::time::{Span, Unix};
use rcgen::string::Ia5String;
use rcgen::{
    CertificateParams, CustomExtension, Issuer, KeyPair, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm,
};
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use time::OffsetDateTime;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

/// The directory of a fake CA, unless it says otherwise.
pub const DIRECTORY: &str = "https://ca.example/directory";

const BASE: &str = "https://ca.example";
/// How long a client waits for a CA that is silent.
const SILENCE: Span = Span::secs(30);
/// What it calls itself in DNS.
const ISSUER: &str = "ca.example";
const ERROR: &str = "urn:ietf:params:acme:error:";

#[derive(Clone)]
pub struct FakeCa(Arc<Mutex<Ca>>);

/// How the CA behaves; `Weather::default()` is a fine day.
#[derive(Clone, Debug)]
pub struct Weather {
    /// Every n-th good nonce is refused; 0 is never.
    pub refuse_nonce_every: u32,
    pub reuse: Reuse,
    /// Every n-th answer gets lost after the CA did what was asked; 0 is never.
    pub lose_reply_every: u32,
    /// The next answer whose path begins so gets lost likewise.
    pub lose_once: Option<&'static str>,
    /// And all of these.
    pub lose_all: Option<&'static str>,
    /// No connection at all.
    pub down: bool,
    /// Connections, but never a word.
    pub hangs: bool,
    /// How long each answer takes.
    pub takes: Span,
    /// Answers whose path begins so are spoilt.
    pub spoil: Option<(&'static str, Bad)>,
    /// Every answer calls itself a page.
    pub mislabels: bool,
    pub wrong_key: bool,
    pub wrong_names: bool,
    /// So many polls pass before an authorization or an order is final.
    pub polls: u32,
    /// On answers that say "not yet".
    pub retry_after: Option<Span>,
    pub life: Span,
    pub backdate: Span,
    pub terms: Option<&'static str>,
    /// Validation fails whatever is served.
    pub reject: bool,
    /// Certificates come without the TLS feature extension, whatever was asked for.
    pub ignores_staple: bool,
    /// The URL of an OCSP responder, which certificates name.
    pub ocsp: Option<&'static str>,
    /// A contact that the CA does not take.
    pub bad_contact: Option<&'static str>,
    /// Orders are refused as if the account were at fault, which it is not.
    pub denies_orders: bool,
    /// The answer to finalize is the finished order.
    pub prompt: bool,
    /// dns-persist-01 is offered as its draft has it.
    pub persist: bool,
    /// Accounts have to be bound: key id, key in base64url, and the one algorithm that is taken.
    pub binding: Option<(&'static str, &'static str, &'static str)>,
    /// Whether the directory says that.
    pub announces_binding: bool,
    /// A binding is good for one account, and is looked at before all else.
    pub binds_once: bool,
    /// It knows orders and nothing else.
    pub no_extras: bool,
    /// The roots of further chains; an empty one is a chain of the leaf alone.
    pub alternates: &'static [&'static str],
    /// Whether it says when it wants certificates to be renewed (RFC 9773): as boulder does, unless `window` says otherwise.
    pub ari: bool,
    pub window: Option<(Unix, Unix)>,
    pub explanation: Option<&'static str>,
    /// How it refuses to hear of a certificate that is to be replaced: status, ACME type.
    pub keeps_replaced: Option<(u16, &'static str)>,
    /// `shortlived` is 160 hours, any other as long as `life`.
    pub profiles: Vec<&'static str>,
    /// Profiles are listed, and refused.
    pub denies_profiles: bool,
}

impl Default for Weather {
    fn default() -> Self {
        Self {
            refuse_nonce_every: 0,
            reuse: Reuse::Never,
            lose_reply_every: 0,
            lose_once: None,
            lose_all: None,
            down: false,
            hangs: false,
            takes: Span::ZERO,
            spoil: None,
            mislabels: false,
            wrong_key: false,
            wrong_names: false,
            polls: 0,
            retry_after: None,
            life: Span::days(90),
            backdate: Span::hours(1),
            terms: Some("https://ca.example/terms"),
            reject: false,
            ignores_staple: false,
            ocsp: None,
            bad_contact: None,
            denies_orders: false,
            prompt: false,
            persist: false,
            binding: None,
            announces_binding: true,
            binds_once: false,
            no_extras: false,
            alternates: &[],
            ari: false,
            window: None,
            explanation: None,
            keeps_replaced: None,
            profiles: vec![],
            denies_profiles: false,
        }
    }
}

/// How often an authorization that is still valid is used again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reuse {
    Never,
    Half,
    Always,
}

/// What stands in place of an answer. What was asked for has not happened then.
#[derive(Clone, Debug)]
pub enum Bad {
    Html,
    Empty,
    Truncated,
    Huge,
    /// A problem document of this ACME type.
    Problem(u16, &'static str, Option<Span>),
}

#[derive(Clone, Debug)]
pub struct Issued {
    pub names: Vec<String>,
    pub not_before: Unix,
    pub not_after: Unix,
    pub der: Vec<u8>,
    pub profile: Option<String>,
    /// Whether another one was ordered in its place.
    pub replaced: bool,
    account: usize,
    id: String,
}

type Look = Box<dyn Fn(&str) -> Option<String> + Send>;

struct Ca {
    base: &'static str,
    now: Box<dyn Fn() -> Unix + Send>,
    /// What it finds at http-01's place for this token.
    look: Look,
    /// What it finds in DNS.
    zone: Option<Zone>,
    weather: Weather,
    issuer: Issuer<'static, KeyPair>,
    root: Vec<u8>,
    responder: Responder,
    nonces: BTreeSet<String>,
    count: u32,
    posts: u32,
    accounts: Vec<Account>,
    orders: Vec<Order>,
    authorizations: Vec<Authorization>,
    issued: Vec<Issued>,
    /// How many it has issued and knows no more.
    forgotten: usize,
    /// What was revoked, and why.
    revoked: Vec<(Vec<u8>, Value)>,
    log: Vec<String>,
    lines: u32,
}

struct Account {
    point: Vec<u8>,
    thumbprint: String,
    contacts: Value,
    /// Its URL is not answered any more.
    forgotten: bool,
    /// It was deactivated: the CA does not hear it any more, and takes its key for no other.
    ended: bool,
    /// What it is bound to.
    kid: Option<String>,
}

struct Order {
    account: usize,
    identifiers: Vec<Value>,
    authorizations: Vec<usize>,
    profile: Option<String>,
    /// The index of the certificate in whose place the new one comes.
    replaces: Option<usize>,
    /// The index of what was issued, and the polls to go until it is told.
    certificate: Option<(usize, u32)>,
    chain: String,
    alternates: Vec<String>,
}

struct Authorization {
    account: usize,
    identifier: Value,
    wildcard: bool,
    token: String,
    /// The verdict and the polls to go until it is told.
    verdict: Option<(Verdict, u32)>,
    asked: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Valid,
    Invalid,
}

/// A refusal on its way out: status, ACME type, detail.
struct No(u16, &'static str, String);

type Answer = Result<Reply, No>;

impl FakeCa {
    /// `now` is the CA's own clock; it looks for http-01 answers in `answers`, as if it fetched them.
    pub fn new(now: impl Fn() -> Unix + Send + Sync + 'static, answers: Arc<Answers>) -> Self {
        Self::at(BASE, now, answers)
    }

    /// Another CA.
    pub fn at(base: &'static str, now: impl Fn() -> Unix + Send + Sync + 'static, answers: Arc<Answers>) -> Self {
        Self::looking(base, now, move |token| answers.find(token))
    }

    /// One that finds answers in its own way.
    pub fn looking(
        base: &'static str,
        now: impl Fn() -> Unix + Send + Sync + 'static,
        look: impl Fn(&str) -> Option<String> + Send + 'static,
    ) -> Self {
        let own = TestCa::new("Fake CA");
        let (issuer, root) = (own.issuer(), own.der.clone());
        let now: Arc<dyn Fn() -> Unix + Send + Sync> = Arc::new(now);
        let theirs = now.clone();
        let responder = Responder::new(own, move || theirs());
        Self(Arc::new(Mutex::new(Ca {
            base,
            now: Box::new(move || now()),
            responder,
            look: Box::new(look),
            zone: None,
            weather: Weather::default(),
            issuer,
            root,
            nonces: BTreeSet::new(),
            count: 0,
            posts: 0,
            accounts: Vec::new(),
            orders: Vec::new(),
            authorizations: Vec::new(),
            issued: Vec::new(),
            forgotten: 0,
            revoked: Vec::new(),
            log: Vec::new(),
            lines: 0,
        })))
    }

    /// One request, as if it had come over a wire.
    pub fn call(&self, request: &Request) -> Result<Reply, Trouble> {
        self.lock().call(request)
    }

    /// A wire to this CA alone, on which every call takes no time.
    pub fn wire(&self) -> FakeWire {
        FakeWire { cas: vec![self.clone()], hands: Hands::at(None) }
    }

    pub fn weather(&self, change: impl FnOnce(&mut Weather)) {
        change(&mut self.lock().weather);
    }

    /// Where it looks for the answers in DNS.
    pub fn asks(&self, zone: &Zone) {
        self.lock().zone = Some(zone.clone());
    }

    /// Its OCSP responder, at whichever URL.
    pub fn responder(&self) -> Responder {
        self.lock().responder.clone()
    }

    /// How many requests arrived.
    pub fn requests(&self) -> usize {
        self.lock().log.len()
    }

    /// `POST /new-order`, one for each request.
    pub fn log(&self) -> Vec<String> {
        self.lock().log.clone()
    }

    /// How many lines were dialled.
    pub fn lines(&self) -> u32 {
        self.lock().lines
    }

    /// Everything that was ever issued, the oldest first.
    pub fn issued(&self) -> Vec<Issued> {
        self.lock().issued.clone()
    }

    /// How many that were.
    pub fn count(&self) -> usize {
        let ca = self.lock();
        ca.forgotten + ca.issued.len()
    }

    /// Between two orders it forgets those that are over, with all that belongs to them.
    pub fn forget_orders(&self) {
        let mut ca = self.lock();
        let ca = &mut *ca;
        (ca.orders, ca.authorizations, ca.log) = (vec![], vec![], vec![]);
        ca.nonces.clear();
        let over = ca.issued.len().saturating_sub(2);
        ca.issued.drain(..over);
        ca.forgotten += over;
    }

    pub fn accounts(&self) -> usize {
        self.lock().accounts.iter().filter(|account| !account.forgotten && !account.ended).count()
    }

    /// What the newest account gave as its contacts.
    pub fn contacts(&self) -> Value {
        self.lock().accounts.last().map(|account| account.contacts.clone()).unwrap_or_default()
    }

    /// How many accounts were deactivated.
    pub fn ended_accounts(&self) -> usize {
        self.lock().accounts.iter().filter(|account| account.ended).count()
    }

    /// The CA deactivates its accounts.
    pub fn end_accounts(&self) {
        for account in &mut self.lock().accounts {
            account.ended = true;
        }
    }

    /// The CA lost its accounts.
    pub fn forget_accounts(&self) {
        for account in &mut self.lock().accounts {
            account.forgotten = true;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ca> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A wire to several CAs; the time that a call takes passes on these hands.
#[derive(Clone)]
pub struct FakeWire {
    pub cas: Vec<FakeCa>,
    pub hands: Hands,
}

impl FakeWire {
    fn ca(&self, url: &str) -> Option<&FakeCa> {
        self.cas.iter().find(|ca| url.starts_with(ca.lock().base))
    }
}

impl FakeWire {
    /// Who answers this, if it is a question about a certificate.
    fn responder(&self, request: &Request) -> Option<Responder> {
        let ca = self.cas.iter().find(|ca| ca.lock().weather.ocsp.is_some_and(|url| request.url.starts_with(url)))?;
        (request.method == Method::Ocsp).then(|| ca.responder())
    }
}

fn answer(responder: &Responder, request: &Request) -> Result<Reply, Trouble> {
    let answer = responder.answer(&request.body);
    let (status, retry_after, body) = answer.ok_or_else(|| Trouble::new("ocsp.example", "Connection refused"))?;
    Ok(Reply { status, retry_after, body, ..Reply::default() })
}

impl Wire for FakeWire {
    fn dial(&mut self, _: &Route) -> Result<Box<dyn Line>, Trouble> {
        Ok(Box::new(FakeLine { wire: self.clone(), call: None, used: false }))
    }
}

struct FakeLine {
    wire: FakeWire,
    /// The call under way, and when its answer is there.
    call: Option<(Request, Span)>,
    used: bool,
}

impl Line for FakeLine {
    fn ask(&mut self, request: Request) {
        let weather = self.wire.ca(&request.url).map(|ca| ca.lock().weather.clone()).unwrap_or_default();
        let responder = self.wire.responder(&request).map(|responder| responder.takes());
        let takes = if let Some(takes) = responder {
            takes
        } else if weather.hangs {
            SILENCE
        } else {
            weather.takes
        };
        if takes > Span::ZERO {
            self.wire.hands.knock_in(takes, Knock::Answer);
        }
        if let (false, Some(ca)) = (self.used, self.wire.ca(&request.url)) {
            ca.lock().lines += 1;
            self.used = true;
        }
        assert_eq!(self.call, None, "one call at a time");
        self.call = Some((request, self.wire.hands.steady().plus(takes)));
    }

    fn heard(&mut self) -> Option<Result<Reply, Trouble>> {
        let now = self.wire.hands.steady();
        let (request, _) = self.call.take_if(|(_, at)| *at <= now)?;
        if let Some(responder) = self.wire.responder(&request) {
            return Some(answer(&responder, &request));
        }
        let nobody = || Err(Trouble::new("nobody", "this host is not known"));
        Some(self.wire.ca(&request.url).map_or_else(nobody, |ca| ca.lock().call(&request)))
    }
}

impl Ca {
    fn call(&mut self, request: &Request) -> Result<Reply, Trouble> {
        let doing = self.base.trim_start_matches("https://");
        if self.weather.down {
            return Err(Trouble::new(doing, "connection refused"));
        }
        if self.weather.hangs {
            return Err(Trouble::new(doing, format!("silent for {SILENCE}")));
        }
        let path = request.url.strip_prefix(self.base).unwrap_or("/elsewhere").to_string();
        self.log.push(format!("{} {path}", format!("{:?}", request.method).to_uppercase()));
        let spoilt = self.weather.spoil.clone().filter(|(begin, _)| path.starts_with(begin));
        let mut reply = match spoilt {
            Some((_, Bad::Huge)) => return Err(Trouble::new(doing, "the CA answered more than 1 MB")),
            Some((_, Bad::Problem(status, kind, wait))) => {
                let mut reply = problem(&No(status, kind, "bad weather".into()));
                reply.retry_after = wait;
                reply
            }
            Some((_, bad)) => self.garbage(&bad),
            None => self.route(request, &path).unwrap_or_else(|no| problem(&no)),
        };
        if self.weather.mislabels {
            reply.content_type = Some("text/html".into());
        }
        if request.method != Method::Get {
            reply.nonce = Some(self.nonce());
        }
        if request.method == Method::Head {
            reply.body.clear();
        }
        let every = self.weather.lose_reply_every;
        let once = self.weather.lose_once.take_if(|begin| path.starts_with(*begin)).is_some();
        let all = self.weather.lose_all.is_some_and(|begin| path.starts_with(begin));
        if once || all || (every > 0 && self.log.len().is_multiple_of(every as usize)) {
            return Err(Trouble::new(doing, "the connection was closed"));
        }
        Ok(reply)
    }

    fn garbage(&self, bad: &Bad) -> Reply {
        let (kind, body) = match bad {
            Bad::Html => ("text/html", "<html>Welcome to the guest network</html>"),
            Bad::Truncated => ("application/json", "{\"status\":\"pending\",\"newNonce\":\"https://ca.exa"),
            _ => ("application/json", ""),
        };
        Reply { status: 200, content_type: Some(kind.into()), body: body.into(), ..Reply::default() }
    }

    fn nonce(&mut self) -> String {
        self.count += 1;
        let nonce = format!("nonce-{}", self.count);
        self.nonces.insert(nonce.clone());
        nonce
    }

    fn route(&mut self, request: &Request, path: &str) -> Answer {
        match (request.method, path) {
            (Method::Get, "/directory") => Ok(self.directory()),
            (Method::Get, _) if path.starts_with("/renewal-info/") && self.weather.ari => self.renewal_info(path),
            (Method::Head, "/new-nonce") => Ok(Reply { status: 200, ..Reply::default() }),
            (Method::Post, _) => self.post(request, path),
            _ => Err(No(404, "malformed", format!("nothing is at {path}"))),
        }
    }

    fn directory(&self) -> Reply {
        let base = self.base;
        let mut meta = match self.weather.terms {
            Some(terms) if self.weather.persist => json!({"termsOfService": terms, "caaIdentities": [ISSUER]}),
            Some(terms) => json!({"termsOfService": terms, "website": null}),
            None => Value::Null,
        };
        if self.weather.binding.is_some() && self.weather.announces_binding {
            meta["externalAccountRequired"] = true.into();
        }
        for profile in &self.weather.profiles {
            meta["profiles"][profile] = format!("the profile {profile}").into();
        }
        let at = |path: &str| format!("{base}{path}");
        let mut body = json!({
            "newNonce": at("/new-nonce"), "newAccount": at("/new-account"), "newOrder": at("/new-order"),
            "x8Qz-random": "https://community.example/t/why-is-this-here", "meta": meta,
        });
        if !self.weather.no_extras {
            body["revokeCert"] = at("/revoke").into();
            body["keyChange"] = at("/key-change").into();
        }
        if self.weather.ari {
            body["renewalInfo"] = at("/renewal-info").into();
        }
        ok(200, &body)
    }

    /// The index of an issued certificate, by its id (RFC 9773 §4.1).
    fn find(&self, id: &str) -> Option<usize> {
        self.issued.iter().rposition(|issued| issued.id == id)
    }

    /// RFC 9773 §4.2, and boulder's window: about two thirds of a life, the half of one below ten days, 1 % to each side.
    fn renewal_info(&self, path: &str) -> Answer {
        let id = path.trim_start_matches("/renewal-info/");
        let issued = &self.issued[self.find(id).ok_or_else(|| No(404, "malformed", "no such certificate".into()))?];
        let life = issued.not_after.since(issued.not_before);
        let centre = if life < Span::days(10) { life.divided(2) } else { life.times(2).divided(3) };
        let (from, to) = (centre.minus(life.percent(1)), centre.plus(life.percent(1)));
        let own = (issued.not_before.plus(from), issued.not_before.plus(to));
        let (start, end) = self.weather.window.unwrap_or(own);
        let mut body = json!({"suggestedWindow": {"start": start.rfc3339(), "end": end.rfc3339()}});
        if let Some(url) = self.weather.explanation {
            body["explanationURL"] = url.into();
        }
        let mut reply = ok(200, &body);
        reply.retry_after = Some(self.weather.retry_after.unwrap_or(Span::hours(6)));
        Ok(reply)
    }

    /// RFC 9773 §5, as boulder takes it.
    fn replaced(&self, account: usize, payload: &Value) -> Result<Option<usize>, No> {
        let Some(id) = payload["replaces"].as_str() else { return Ok(None) };
        if let Some((status, kind)) = self.weather.keeps_replaced {
            return Err(No(status, kind, "it is not to be replaced".into()));
        }
        let index = self.find(id).ok_or_else(|| No(404, "malformed", "no such certificate".into()))?;
        let issued = &self.issued[index];
        let named = |name: &String| payload["identifiers"].as_array().unwrap().iter().any(|one| one["value"] == **name);
        if issued.replaced {
            Err(No(409, "alreadyReplaced", "it was replaced already".into()))
        } else if issued.account != account {
            Err(No(403, "unauthorized", "it is another account's".into()))
        } else if !issued.names.iter().any(named) {
            Err(No(400, "malformed", "it shares no name".into()))
        } else {
            Ok(Some(index))
        }
    }

    fn profile(&self, payload: &Value) -> Result<Option<String>, No> {
        let Some(profile) = payload["profile"].as_str() else { return Ok(None) };
        if self.weather.denies_profiles || !self.weather.profiles.contains(&profile) {
            return Err(No(400, "invalidProfile", "not this profile".into()));
        }
        Ok(Some(profile.into()))
    }

    /// RFC 8555 §6.2 to §6.5: who asks, and is it fresh?
    fn post(&mut self, request: &Request, path: &str) -> Answer {
        let malformed = |why: &str| No(400, "malformed", why.into());
        let jws: Value = serde_json::from_slice(&request.body).map_err(|_| malformed("not JSON"))?;
        let part = |name: &str| jws[name].as_str().ok_or_else(|| malformed("not a flattened JWS"));
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| malformed("not base64url"));
        let header: Value =
            serde_json::from_slice(&decode(part("protected")?)?).map_err(|_| malformed("header is not JSON"))?;
        let account = self.signer(&header, path)?;
        let input = format!("{}.{}", part("protected")?, part("payload")?);
        let signature = decode(part("signature")?)?;
        UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, &account.0)
            .verify(input.as_bytes(), &signature)
            .map_err(|_| No(403, "unauthorized", "the signature is wrong".into()))?;
        if header["url"] != request.url.as_str() {
            return Err(No(403, "unauthorized", "the signed URL is another one".into()));
        }
        self.posts += 1;
        let every = self.weather.refuse_nonce_every;
        let fresh = self.nonces.remove(header["nonce"].as_str().unwrap_or_default());
        if !fresh || (every > 0 && self.posts.is_multiple_of(every)) {
            return Err(No(400, "badNonce", "the nonce is not good".into()));
        }
        let payload = decode(part("payload")?)?;
        match (path, account.1) {
            ("/key-change", Some(account)) => self.change_key(account, &payload, &request.url),
            ("/revoke", account_index) => self.revoke(&account.0, account_index, &payload),
            (_, None) => self.new_account(&account.0, &payload),
            (_, Some(account)) => self.act(account, path, &payload, request),
        }
    }

    /// The key's point and the account's index, if it speaks by `kid`.
    fn signer(&self, header: &Value, path: &str) -> Result<(Vec<u8>, Option<usize>), No> {
        let malformed = |why: &str| No(400, "malformed", why.into());
        if header["alg"] != "ES256" {
            return Err(No(400, "badSignatureAlgorithm", "ES256 only".into()));
        }
        let by_key = path == "/new-account";
        match (header.get("jwk"), header.get("kid").and_then(Value::as_str)) {
            (Some(jwk), None) if by_key || path == "/revoke" => {
                let decode = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap_or_default());
                let (Ok(x), Ok(y)) = (decode("x"), decode("y")) else { return Err(malformed("bad jwk")) };
                Ok(([vec![4], x, y].concat(), None))
            }
            (None, Some(kid)) if !by_key => {
                let index = kid.strip_prefix(self.base).and_then(|rest| rest.strip_prefix("/account/"));
                let index = index.and_then(|text| text.parse().ok());
                let known = index.and_then(|index: usize| Some((index, self.accounts.get(index)?)));
                match known {
                    Some((_, account)) if account.ended => {
                        Err(No(403, "unauthorized", "the account is deactivated".into()))
                    }
                    Some((index, account)) if !account.forgotten => Ok((account.point.clone(), Some(index))),
                    _ => Err(No(400, "accountDoesNotExist", "no such account".into())),
                }
            }
            _ => Err(malformed("one of jwk and kid, the right one")),
        }
    }

    fn new_account(&mut self, point: &[u8], payload: &[u8]) -> Answer {
        let base = self.base;
        let payload: Value = serde_json::from_slice(payload).unwrap_or_default();
        let known = self.accounts.iter().position(|account| account.point == point && !account.forgotten);
        let kid = self.check_binding(point, &payload, known.is_some())?;
        check_contacts(&payload, self.weather.bad_contact)?;
        let (status, index) = match known {
            Some(index) if self.accounts[index].ended => {
                return Err(No(403, "unauthorized", "the account of this key is deactivated".into()));
            }
            Some(index) => (200, index),
            None if payload["onlyReturnExisting"] == true => {
                return Err(No(400, "accountDoesNotExist", "no account has this key".into()));
            }
            None if self.weather.terms.is_some() && payload["termsOfServiceAgreed"] != true => {
                return Err(No(403, "userActionRequired", "the terms are not agreed to".into()));
            }
            None => {
                let thumbprint = Jwk::ec(point).unwrap().thumbprint();
                let contacts = payload["contact"].clone();
                self.accounts.push(Account {
                    point: point.into(),
                    thumbprint,
                    contacts,
                    forgotten: false,
                    ended: false,
                    kid,
                });
                (201, self.accounts.len() - 1)
            }
        };
        let mut reply = ok(status, &json!({"status": "valid"}));
        reply.location = Some(format!("{base}/account/{index}"));
        Ok(reply)
    }

    fn act(&mut self, account: usize, path: &str, payload: &[u8], request: &Request) -> Answer {
        let mut words = path.trim_start_matches('/').split('/');
        let (verb, index) = (words.next().unwrap_or_default(), words.next().and_then(|text| text.parse().ok()));
        let nothing = || No(404, "malformed", format!("nothing is at {path}"));
        let index = if verb == "new-order" { 0 } else { index.ok_or_else(nothing)? };
        let owner = match verb {
            "order" | "finalize" | "certificate" => self.orders.get(index).map(|order| order.account),
            "authorization" | "challenge" => self.authorizations.get(index).map(|a| a.account),
            "account" => Some(index),
            _ => Some(account),
        };
        if owner.ok_or_else(nothing)? != account {
            return Err(No(403, "unauthorized", "that is another account's".into()));
        }
        let reads =
            matches!(verb, "order" | "authorization" | "certificate") || (verb == "account" && payload.is_empty());
        if reads != payload.is_empty() {
            return Err(No(400, "malformed", "POST-as-GET has an empty payload, all else has not".into()));
        }
        match verb {
            "new-order" if self.weather.denies_orders => Err(No(403, "unauthorized", "not for you".into())),
            "new-order" => self.new_order(account, payload),
            "account" => self.change_account(account, payload),
            "order" => Ok(self.order(index)),
            "authorization" => Ok(self.authorization(index)),
            "challenge" => self.challenge(index, words.next().unwrap_or_default()),
            "finalize" => self.finalize(index, payload),
            "certificate" if request.accept != Some("application/pem-certificate-chain") => {
                Err(No(406, "malformed", "PEM is all there is".into()))
            }
            "certificate" => self.certificate(index, words.next()),
            _ => Err(nothing()),
        }
    }

    /// RFC 8555 §7.3.2, §7.3.6.
    fn change_account(&mut self, account: usize, payload: &[u8]) -> Answer {
        let payload: Value = serde_json::from_slice(payload).unwrap_or_default();
        check_contacts(&payload, self.weather.bad_contact)?;
        let account = &mut self.accounts[account];
        if payload["contact"].is_array() {
            account.contacts = payload["contact"].clone();
        }
        account.ended = payload["status"] == "deactivated";
        let status = if account.ended { "deactivated" } else { "valid" };
        Ok(ok(200, &json!({"status": status, "contact": account.contacts})))
    }

    fn new_order(&mut self, account: usize, payload: &[u8]) -> Answer {
        let base = self.base;
        let payload: Value = serde_json::from_slice(payload).unwrap_or_default();
        let identifiers = payload["identifiers"].as_array().cloned().unwrap_or_default();
        if identifiers.is_empty() {
            return Err(No(400, "malformed", "no identifiers".into()));
        }
        let (replaces, profile) = (self.replaced(account, &payload)?, self.profile(&payload)?);
        let mut authorizations = Vec::new();
        for identifier in &identifiers {
            let text = identifier["value"].as_str().unwrap_or_default();
            let wildcard = text.starts_with("*.");
            let identifier = json!({"type": identifier["type"], "value": text.trim_start_matches("*.")});
            let usable = |a: &Authorization| {
                a.account == account
                    && a.identifier == identifier
                    && a.wildcard == wildcard
                    && matches!(a.verdict, Some((Verdict::Valid, _)))
            };
            let reuse = match self.weather.reuse {
                Reuse::Never => false,
                Reuse::Always => true,
                Reuse::Half => self.orders.len() % 2 == 1,
            };
            let index = match self.authorizations.iter().position(usable) {
                Some(index) if reuse => index,
                _ => {
                    let token = format!("token_{}-{}", self.authorizations.len(), "x".repeat(22));
                    let fresh = Authorization { account, identifier, wildcard, token, verdict: None, asked: "" };
                    self.authorizations.push(fresh);
                    self.authorizations.len() - 1
                }
            };
            authorizations.push(index);
        }
        let (certificate, chain, alternates) = (None, String::new(), vec![]);
        self.orders.push(Order {
            account,
            identifiers,
            authorizations,
            profile,
            replaces,
            certificate,
            chain,
            alternates,
        });
        let index = self.orders.len() - 1;
        let mut reply = self.order(index);
        reply.status = 201;
        reply.location = Some(format!("{base}/order/{index}"));
        Ok(reply)
    }

    fn is_ready(&self, index: usize) -> bool {
        let valid = |index: &usize| matches!(self.authorizations[*index].verdict, Some((Verdict::Valid, 0)));
        self.orders[index].authorizations.iter().all(valid)
    }

    fn order(&mut self, index: usize) -> Reply {
        let base = self.base;
        let invalid = |index: &usize| matches!(self.authorizations[*index].verdict, Some((Verdict::Invalid, 0)));
        let open = match &self.orders[index].authorizations {
            authorizations if authorizations.iter().any(invalid) => "invalid",
            _ if self.is_ready(index) => "ready",
            _ => "pending",
        };
        let status = match &mut self.orders[index].certificate {
            Some((_, 0)) => "valid",
            Some((_, polls)) => {
                *polls -= 1;
                "processing"
            }
            None => open,
        };
        let order = &self.orders[index];
        let authorizations: Vec<String> =
            order.authorizations.iter().map(|index| format!("{base}/authorization/{index}")).collect();
        let mut body = json!({
            "status": status, "identifiers": order.identifiers, "authorizations": authorizations,
            "finalize": format!("{base}/finalize/{index}"), "expires": "2038-01-01T00:00:00Z",
        });
        if status == "valid" {
            body["certificate"] = format!("{base}/certificate/{index}").into();
        }
        self.not_yet(ok(200, &body), status != "valid")
    }

    fn not_yet(&self, mut reply: Reply, waits: bool) -> Reply {
        if waits {
            reply.retry_after = self.weather.retry_after;
        }
        reply
    }

    fn authorization(&mut self, index: usize) -> Reply {
        let base = self.base;
        let count = self.count as usize;
        let authorization = &mut self.authorizations[index];
        let status = match &mut authorization.verdict {
            None => "pending",
            Some((Verdict::Valid, 0)) => "valid",
            Some((Verdict::Invalid, 0)) => "invalid",
            Some((_, polls)) => {
                *polls -= 1;
                "pending"
            }
        };
        let types: &[&str] = if authorization.wildcard { &["dns-01"] } else { &["http-01", "tls-alpn-01", "dns-01"] };
        let mut challenges: Vec<Value> = types
            .iter()
            .map(|kind| {
                let asked = authorization.asked == *kind;
                let mut challenge = json!({
                    "type": kind, "url": format!("{base}/challenge/{index}/{kind}"), "token": authorization.token,
                    "status": if !asked { "pending" } else if status == "pending" { "processing" } else { status },
                });
                if asked && status == "invalid" {
                    challenge["error"] = json!({
                        "type": format!("{ERROR}unauthorized"), "status": 403,
                        "detail": "the answer is not the key authorization",
                    });
                }
                challenge
            })
            .collect();
        let mut persist = json!({"type": "dns-persist-01", "url": "https://ca.example/x", "status": "pending"});
        if self.weather.persist {
            persist["url"] = format!("{base}/challenge/{index}/dns-persist-01").into();
            persist["issuer-domain-names"] = json!([ISSUER, "other.example"]);
        }
        challenges.push(persist);
        challenges.push(json!({"type": "telepathy-01", "token": 7, "url": [1, 2]}));
        let shift = count % challenges.len();
        challenges.rotate_left(shift);
        let mut body = json!({
            "identifier": authorization.identifier, "status": status, "challenges": challenges,
            "expires": "2038-01-01T00:00:00Z",
        });
        if authorization.wildcard {
            body["wildcard"] = true.into();
        }
        self.not_yet(ok(200, &body), status == "pending")
    }

    /// RFC 8555 §7.5.1; the CA looks at once and tells the verdict after some polls.
    fn challenge(&mut self, index: usize, kind: &str) -> Answer {
        let base = self.base;
        let found = (self.look)(&self.authorizations[index].token);
        let thumbprint = &self.accounts[self.authorizations[index].account].thumbprint;
        let expected = format!("{}.{thumbprint}", self.authorizations[index].token);
        let authorization = &mut self.authorizations[index];
        if authorization.verdict.is_some() {
            return Err(No(400, "malformed", "the challenge is not pending".into()));
        }
        let name = authorization.identifier["value"].as_str().unwrap_or_default();
        let shown = |txt: Option<Txt>| txt.is_some_and(|txt| self.zone.as_ref().is_some_and(|zone| zone.shows(&txt)));
        let proven = match (kind, Name::parse(name, Labels::One)) {
            ("http-01", _) => found == Some(expected),
            ("dns-01", Ok(name)) => shown(Some(Txt::dns_01(&name, &expected))),
            ("dns-persist-01", Ok(name)) => {
                let account = format!("{base}/account/{}", authorization.account);
                shown(Txt::persist(&name, ISSUER, &account, authorization.wildcard))
            }
            _ => false,
        };
        let good = proven && !self.weather.reject;
        authorization.verdict = Some((if good { Verdict::Valid } else { Verdict::Invalid }, self.weather.polls));
        let kinds = ["http-01", "tls-alpn-01", "dns-01", "dns-persist-01"];
        authorization.asked = kinds.into_iter().find(|word| *word == kind).unwrap_or("");
        Ok(ok(
            200,
            &json!({"type": kind, "url": format!("{base}/challenge/{index}/{kind}"), "status": "processing",
                "token": authorization.token}),
        ))
    }

    fn finalize(&mut self, index: usize, payload: &[u8]) -> Answer {
        if self.orders[index].certificate.is_some() || !self.is_ready(index) {
            return Err(No(403, "orderNotReady", "the order is not ready".into()));
        }
        let payload: Value = serde_json::from_slice(payload).unwrap_or_default();
        let bad = |why: &str| No(400, "badCSR", why.into());
        let csr = URL_SAFE_NO_PAD
            .decode(payload["csr"].as_str().unwrap_or_default())
            .map_err(|_| bad("the request is not base64url"))?;
        let (key, names, must_staple) = read_request(&csr).map_err(|why| bad(&why))?;
        let ordered: BTreeSet<String> = self.orders[index]
            .identifiers
            .iter()
            .map(|identifier| identifier["value"].as_str().unwrap_or_default().to_string())
            .collect();
        if ordered != names {
            return Err(bad("the request has other names than the order"));
        }
        let (account, profile) = (self.orders[index].account, self.orders[index].profile.clone());
        if let Some(old) = self.orders[index].replaces {
            self.issued[old].replaced = true;
        }
        let chain = self.issue(key, names, must_staple, (account, profile));
        let alternates = self.alternates();
        let polls = if self.weather.prompt { 0 } else { self.weather.polls + 1 };
        let order = &mut self.orders[index];
        (order.chain, order.alternates) = (chain, alternates);
        order.certificate = Some((self.issued.len() - 1, polls));
        Ok(self.order(index))
    }

    fn issue(
        &mut self,
        mut key: PublicKey,
        mut names: BTreeSet<String>,
        must_staple: bool,
        (account, profile): (usize, Option<String>),
    ) -> String {
        if self.weather.wrong_key {
            let other = KeyPair::generate().unwrap();
            key = PublicKey { bytes: other.der_bytes().to_vec(), algorithm: &rcgen::PKCS_ECDSA_P256_SHA256 };
        }
        if self.weather.wrong_names {
            names = BTreeSet::from(["elsewhere.example".to_string()]);
        }
        let not_before = Unix::from_secs((self.now)().secs()).minus(self.weather.backdate);
        let short = profile.as_deref() == Some("shortlived");
        let not_after = not_before.plus(if short { Span::hours(160) } else { self.weather.life });
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.not_before = calendar(not_before);
        params.not_after = calendar(not_after);
        params.serial_number = Some(SerialNumber::from((self.forgotten + self.issued.len()) as u64 + 1000));
        params.use_authority_key_identifier_extension = true;
        if must_staple && !self.weather.ignores_staple {
            let extension = CustomExtension::from_oid_content(&x509::TLS_FEATURE, x509::STATUS_REQUEST.into());
            params.custom_extensions.push(extension);
        }
        params.custom_extensions.extend(self.weather.ocsp.map(access));
        params.subject_alt_names = names
            .iter()
            .map(|name| match name.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(Ia5String::try_from(name.as_str()).unwrap()),
            })
            .collect();
        let der = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        let chain = pem::encode("CERTIFICATE", &der) + &pem::encode("CERTIFICATE", &self.root);
        let facts = x509::facts(&der, KeyKind::P256, "", Unix::default()).unwrap();
        let (names, id) = (names.into_iter().collect(), advice::cert_id(&facts).unwrap());
        self.issued.push(Issued { names, not_before, not_after, der, profile, replaced: false, account, id });
        chain
    }
}

fn check_contacts(payload: &Value, bad: Option<&str>) -> Result<(), No> {
    let bad =
        payload["contact"].as_array().into_iter().flatten().find(|contact| contact.as_str() == bad && bad.is_some());
    bad.map_or(Ok(()), |contact| Err(No(400, "invalidContact", format!("no mail can be sent to {contact}"))))
}

fn calendar(moment: Unix) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(moment.secs() as i64).unwrap()
}

fn ok(status: u16, body: &Value) -> Reply {
    let kind = Some("application/json".into());
    Reply { status, content_type: kind, body: body.to_string().into_bytes(), ..Reply::default() }
}

fn problem(no: &No) -> Reply {
    let body = json!({"type": format!("{ERROR}{}", no.1), "detail": no.2, "status": no.0});
    Reply { content_type: Some("application/problem+json".into()), ..ok(no.0, &body) }
}

struct PublicKey {
    bytes: Vec<u8>,
    algorithm: &'static SignatureAlgorithm,
}

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

/// The key and the names of a request, its own signature checked, and whether it wants must-staple.
fn read_request(der: &[u8]) -> Result<(PublicKey, BTreeSet<String>, bool), String> {
    let (rest, request) = X509CertificationRequest::from_der(der).map_err(|_| "the request is not DER")?;
    if !rest.is_empty() {
        return Err("bytes follow the request".into());
    }
    let info = &request.certification_request_info;
    if info.subject.iter().count() > 0 {
        return Err("names belong into the SANs".into());
    }
    let bytes = info.subject_pki.subject_public_key.data.to_vec();
    let (algorithm, verification): (_, &dyn VerificationAlgorithm) = match bytes.len() {
        65 => (&rcgen::PKCS_ECDSA_P256_SHA256, &signature::ECDSA_P256_SHA256_ASN1),
        97 => (&rcgen::PKCS_ECDSA_P384_SHA384, &signature::ECDSA_P384_SHA384_ASN1),
        _ => (&rcgen::PKCS_RSA_SHA256, &signature::RSA_PKCS1_2048_8192_SHA256),
    };
    UnparsedPublicKey::new(verification, &bytes)
        .verify(info.raw, &request.signature_value.data)
        .map_err(|_| "the request is not signed by its key")?;
    let mut names = BTreeSet::new();
    for extension in request.requested_extensions().ok_or("the request asks for nothing")? {
        let ParsedExtension::SubjectAlternativeName(sans) = extension else { continue };
        for san in &sans.general_names {
            names.insert(match san {
                GeneralName::DNSName(name) => (*name).to_string(),
                GeneralName::IPAddress(bytes) => match bytes.len() {
                    4 => std::net::IpAddr::from(<[u8; 4]>::try_from(*bytes).unwrap()).to_string(),
                    _ => std::net::IpAddr::from(<[u8; 16]>::try_from(*bytes).map_err(|_| "odd address")?).to_string(),
                },
                _ => return Err("an odd kind of name".into()),
            });
        }
    }
    let feature = [&[0x2b, 6, 1, 5, 5, 7, 1, 24, 4, 5][..], &x509::STATUS_REQUEST].concat();
    let must_staple = info.raw.windows(feature.len()).any(|window| window == feature);
    Ok((PublicKey { bytes, algorithm }, names, must_staple))
}
