//! Words of Apache's that stand in configurations which people bring along, and what edgemd has in their place.

/// What edgemd does not have, and what to use instead (nothing: the line can only go).
type Foreign = (&'static str, &'static str, &'static str);

/// A directive, or a section in its brackets. Those of one group say the same.
static FOREIGN: &[Foreign] = &[
    ("DocumentRoot", "files to serve", "ProxyPass, which passes the site on to a web server"),
    ("DirectoryIndex", "files to serve", ""),
    ("Alias", "files to serve", ""),
    ("ScriptAlias", "files to serve", ""),
    ("ErrorDocument", "pages of its own", ""),
    ("Options", "files to serve", ""),
    ("AllowOverride", "files to serve", ""),
    ("<Directory>", "files to serve", ""),
    ("<DirectoryMatch>", "files to serve", ""),
    ("<Files>", "files to serve", ""),
    ("<FilesMatch>", "files to serve", ""),
    ("<Location>", "settings for parts of a site", ""),
    ("<LocationMatch>", "settings for parts of a site", ""),
    ("<Proxy>", "settings for parts of a site", ""),
    ("<Limit>", "settings for parts of a site", ""),
    ("LoadModule", "modules", ""),
    ("<IfModule>", "modules", ""),
    ("<IfDefine>", "definitions", "${NAME}, which comes from the environment"),
    ("<IfVersion>", "versions of Apache", ""),
    ("Define", "definitions", "${NAME}, which comes from the environment"),
    ("SSLCertificateFile", "static certificates outside of MDs", "MDomain, which gets one"),
    ("SSLCertificateKeyFile", "static certificates outside of MDs", "MDomain, which gets one"),
    ("SSLCertificateChainFile", "static certificates outside of MDs", "MDomain, which gets one"),
    ("SSLProtocol", "old versions of TLS", ""),
    ("SSLCipherSuite", "choice of ciphers", ""),
    ("SSLHonorCipherOrder", "choice of ciphers", ""),
    ("SSLUseStapling", "that way of stapling", "MDStapling"),
    ("ErrorLog", "log files: it logs on stderr", ""),
    ("CustomLog", "log files: it logs on stderr", ""),
    ("TransferLog", "log files: it logs on stderr", ""),
    ("LogFormat", "log files: it logs on stderr", ""),
    ("LogLevel", "log levels in its configuration", ""),
    ("RewriteEngine", "rewriting", "MDRequireHttps, where it was to redirect to https"),
    ("RewriteRule", "rewriting", "MDRequireHttps, where it was to redirect to https"),
    ("RewriteCond", "rewriting", "MDRequireHttps, where it was to redirect to https"),
    ("Redirect", "redirects of its own", "MDRequireHttps, where it was to redirect to https"),
    ("RedirectMatch", "redirects of its own", "MDRequireHttps, where it was to redirect to https"),
    ("Header", "changes to headers", ""),
    ("RequestHeader", "changes to headers", ""),
    ("ProxyPassReverse", "changes to headers", ""),
    ("ProxyPreserveHost", "changes to headers: the host is always passed on", ""),
    ("ProxyRequests", "forward proxy", ""),
    ("Require", "access rules", ""),
    ("AuthType", "access rules", ""),
    ("Order", "access rules", ""),
    ("Allow", "access rules", ""),
    ("Deny", "access rules", ""),
    ("SetHandler", "handlers", ""),
    ("AddHandler", "handlers", ""),
    ("ServerRoot", "server root: paths count from the configuration's folder", ""),
    ("ServerTokens", "signature", ""),
    ("ServerSignature", "signature", ""),
    ("User", "users to change to", "the service manager, which starts it as one"),
    ("Group", "users to change to", "the service manager, which starts it as one"),
    ("PidFile", "pid file", "the service manager"),
    ("Mutex", "mutexes", ""),
    ("Timeout", "times to be set for connections", ""),
    ("KeepAlive", "times to be set for connections", ""),
    ("NameVirtualHost", "lists of name-based hosts: all are", ""),
    ("Protocols", "choice of protocols: acme-tls/1 is answered by itself", ""),
    ("SSLProxyEngine", "https to the back end", "SSLProxyPassthrough"),
    ("MDCertificateCheck", "pages of certificate monitors", ""),
    ("MDCertificateMonitor", "pages of certificate monitors", ""),
];

/// The fault of a word that is Apache's.
pub fn foreign(name: &str) -> Option<String> {
    let (name, lacks, instead) = FOREIGN.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name))?;
    let instead = if instead.is_empty() { String::new() } else { format!(" or use {instead}") };
    Some(format!("{name} is Apache's; edgemd has no {lacks}; remove it{instead}"))
}

/// Whether this module is in force, as far as a paragraph about MDs asks: `<IfModule mod_md.c>` is true here, and
/// `<IfModule !mod_md.c>` is not. Of other modules nothing is known.
pub fn has_module(word: &str) -> Option<bool> {
    let (name, wanted) = match word.strip_prefix('!') {
        Some(name) => (name, false),
        None => (word, true),
    };
    let ours = ["mod_md.c", "md_module", "mod_ssl.c", "ssl_module"];
    ours.iter().any(|known| known.eq_ignore_ascii_case(name)).then_some(wanted)
}

/// Whether what stands in a section of Apache's would stand there without it too.
pub fn is_condition(name: &str) -> bool {
    ["<IfModule>", "<IfDefine>", "<IfVersion>"].iter().any(|known| known.eq_ignore_ascii_case(name))
}
