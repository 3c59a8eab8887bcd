package childenv

import (
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// apply returns base with the settings for a proxy URL.
func apply(base []string, proxy string, local bool, helper []string) []string {
	u, err := url.Parse(proxy)
	if err != nil {
		panic(err)
	}
	s := Settings{Proxy: u, DirectLocal: local, ConnectCommand: helper}
	return s.Apply(base)
}

// set returns the settings for a proxy in order, without JAVA_TOOL_OPTIONS and
// those of git.
func set(proxy string) []string {
	var entries []string
	for _, name := range strings.Fields(`HTTP_PROXY http_proxy HTTPS_PROXY https_proxy ALL_PROXY all_proxy
		WS_PROXY ws_proxy WSS_PROXY wss_proxy FTP_PROXY ftp_proxy npm_config_proxy npm_config_https_proxy
		YARN_HTTP_PROXY YARN_HTTPS_PROXY PIP_PROXY CARGO_HTTP_PROXY DOCKER_HTTP_PROXY DOCKER_HTTPS_PROXY
		BUNDLE_HTTP_PROXY BUNDLE_HTTPS_PROXY grpc_proxy GRPC_PROXY GLOBAL_AGENT_HTTP_PROXY GLOBAL_AGENT_HTTPS_PROXY`) {
		entries = append(entries, name+"="+proxy)
	}
	return append(entries, "NO_PROXY=", "no_proxy=", "npm_config_noproxy=",
		"NODE_USE_ENV_PROXY=1", "ELECTRON_GET_USE_PROXY=true", "PERL_LWP_ENV_PROXY=1")
}

func git(pairs ...string) []string {
	entries := []string{"GIT_CONFIG_COUNT=" + string(rune('0'+len(pairs)/2))}
	for i := 0; i < len(pairs); i += 2 {
		n := string(rune('0' + i/2))
		entries = append(entries, "GIT_CONFIG_KEY_"+n+"="+pairs[i], "GIT_CONFIG_VALUE_"+n+"="+pairs[i+1])
	}
	return entries
}

const javaOptions = "-Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=40123 -Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=40123"

func TestApply(t *testing.T) {
	t.Parallel()
	const plain, secret = "http://127.0.0.1:40123", "http://session:secret@127.0.0.1:40123"
	java := "JAVA_TOOL_OPTIONS=" + javaOptions + " -Dhttp.nonProxyHosts="
	standard := slices.Concat(set(plain), []string{"RSYNC_PROXY=127.0.0.1:40123", java}, git("http.proxy", plain))
	local := slices.Clone(standard)
	for i, entry := range local {
		local[i] = strings.TrimSuffix(entry, " -Dhttp.nonProxyHosts=")
		if name, value, _ := strings.Cut(entry, "="); value == "" && strings.Contains(strings.ToLower(name), "no") {
			local[i] += "localhost,127.0.0.1,::1"
		}
	}
	for _, test := range []struct {
		name   string
		base   []string
		proxy  string
		local  bool
		helper []string
		want   []string
	}{
		{name: "empty", want: standard},
		{name: "the rest keeps its order", base: []string{"B=2", "A=1", "C="}, want: slices.Concat([]string{"B=2", "A=1", "C="}, standard)},
		{name: "replaced entries", base: []string{"A=old", "B=2", "A=new"}, want: slices.Concat([]string{"B=2", "A=new"}, standard)},
		{name: "odd entries", base: []string{"", "A", "=C:=C:\\dir", "B=a=b"}, want: slices.Concat([]string{"A", "=C:=C:\\dir", "B=a=b"}, standard)},
		{name: "local binding", local: true, want: local},
		{
			name:  "with a token",
			proxy: secret,
			want: slices.Concat(set(secret), []string{"RSYNC_PROXY=session:secret@127.0.0.1:40123", java},
				git("http.proxy", secret), []string{"GIT_HTTP_PROXY_AUTHMETHOD=basic"}),
		},
		{
			name: "other proxies",
			base: strings.Fields(`HTTP_PROXY=x http_proxy=x Http_Proxy=x HTTPS_PROXY=x ALL_PROXY=x all_proxy=x NO_PROXY=* no_proxy=* No_Proxy=*
				FTP_PROXY=x ws_proxy=x telnet_proxy=x SOCKS_PROXY=x socks5_proxy=x auto_proxy=http://pac.example/ rsync_proxy=x
				no_grpc_proxy=* GRPC_PROXY=x CGI_HTTP_PROXY=x
				npm_config_proxy=x NPM_CONFIG_PROXY=x npm_config_https_proxy=x npm_config_https-proxy=x NPM_CONFIG_NOPROXY=*
				npm_config_noproxy=* npm_config_no_proxy=* npm_config_http_proxy=x PNPM_CONFIG_NOPROXY=* PNPM_CONFIG_PROXY=x
				YARN_HTTP_PROXY=x YARN_PROXY=x YARN_NO_PROXY=* yarn_noproxy=* PIP_PROXY=x CARGO_HTTP_PROXY=x BUNDLE_NO_PROXY=*
				DOCKER_NO_PROXY=* GLOBAL_AGENT_NO_PROXY=* GLOBAL_AGENT_ENVIRONMENT_VARIABLE_NAMESPACE=X_ CLOUDSDK_PROXY_TYPE=http
				CLOUDSDK_PROXY_ADDRESS=x CLOUDSDK_PROXY_PORT=1 SOCKS_SERVER=x SOCKS_VERSION=5 NODE_USE_ENV_PROXY=0
				ELECTRON_GET_USE_PROXY=false PERL_LWP_ENV_PROXY=0 RSYNC_CONNECT_PROG=x RSYNC_PROXY=x`),
			want: standard,
		},
		{
			name: "look alike and are kept",
			base: strings.Fields(`TRUST_PROXY=1 GOPROXY=direct GONOPROXY=corp.example APP_BEHIND_PROXY=yes HTTP_PROXY_REQUEST_FULLURI=false
				PROXY=x MY_PROXY_HOST=x npm_config_registry=x NPM_CONFIG_STRICT_SSL=true PIP_INDEX_URL=x CURL_HOME=/c WGETRC=/w`),
			want: slices.Concat(strings.Fields(`TRUST_PROXY=1 GOPROXY=direct GONOPROXY=corp.example APP_BEHIND_PROXY=yes HTTP_PROXY_REQUEST_FULLURI=false
				PROXY=x MY_PROXY_HOST=x npm_config_registry=x NPM_CONFIG_STRICT_SSL=true PIP_INDEX_URL=x CURL_HOME=/c WGETRC=/w`), standard),
		},
		{
			name: "CGI",
			base: []string{"REQUEST_METHOD=GET", "GATEWAY_INTERFACE=CGI/1.1", "QUERY_STRING=a"},
			want: slices.Concat([]string{"QUERY_STRING=a"}, standard),
		},
		{
			name: "Java",
			base: []string{
				`JAVA_TOOL_OPTIONS=-Xmx1g -Dhttp.proxyHost=corp "-Dhttp.nonProxyHosts=*" -Duser.home="/a b" -DsocksProxyHost=corp`,
				`_JAVA_OPTIONS=-Dhttps.proxyHost=corp -Dhttps.proxyPort=1`,
				`JDK_JAVA_OPTIONS=-Djava.net.useSystemProxies=true -ea`,
				`MAVEN_OPTS=-Xss2m '-Dhttp.nonProxyHosts=a|b c' -Dhttp.proxyUser=u -Dhttp.proxyPassword=p -Dhttp.keepAlive=false`,
				`GRADLE_OPTS=-DproxySet=true -Dftp.proxyHost=corp -Dx.http.proxyHost=kept`,
			},
			want: slices.Concat([]string{"JDK_JAVA_OPTIONS=-ea", "MAVEN_OPTS=-Xss2m -Dhttp.keepAlive=false", "GRADLE_OPTS=-Dx.http.proxyHost=kept"},
				set(plain), []string{"RSYNC_PROXY=127.0.0.1:40123",
					`JAVA_TOOL_OPTIONS=-Xmx1g -Duser.home="/a b" ` + javaOptions + " -Dhttp.nonProxyHosts="}, git("http.proxy", plain)),
		},
		{
			name: "Node.js",
			base: []string{"NODE_OPTIONS=--max-old-space-size=4096 --no-use-env-proxy --require \"./a b.js\"", "npm_config_node_options=--no-use-env-proxy"},
			want: slices.Concat([]string{"NODE_OPTIONS=--max-old-space-size=4096 --require \"./a b.js\""}, standard),
		},
		{
			name: "Java, by other variables",
			base: []string{
				"IBM_JAVA_OPTIONS=-Dhttp.proxyHost=x", "OPENJ9_JAVA_OPTIONS=-Xmx1g -Dhttps.nonProxyHosts=*", "JVM_OPTS=-DsocksProxyHost=x",
				"JAVA_OPTIONS=-Dhttp.nonProxyHosts=*", "JRUBY_OPTS=-J-Dhttp.proxyHost=x --dev", "MAVEN_ARGS=-B -D http.nonProxyHosts=* -D user=x",
				"LEIN_JVM_OPTS=-Dhttp.proxyHost=x", "CATALINA_OPTS=-Dhttp.proxyHost=x", "ES_JAVA_OPTS=-Djava.net.useSystemProxies=true",
				"ANT_ARGS=--define=http.proxyHost=x", "GRADLE_ARGS=--system-prop https.proxyPort=1 --offline", `SBT_OPTS="-Dhttp.proxyHost=x" '-Dhttps.proxyHost=x'`,
				"java_opts=-Dhttp.proxyHost=x",
			},
			want: slices.Concat([]string{"OPENJ9_JAVA_OPTIONS=-Xmx1g", "JRUBY_OPTS=--dev", "MAVEN_ARGS=-B -D user=x", "GRADLE_ARGS=--offline"}, standard),
		},
		{
			name: "Node.js, spelled in other ways",
			base: []string{"NODE_OPTIONS=--no_use_env_proxy", "npm_config_node_options=--no-use_env-proxy --inspect", `PNPM_CONFIG_NODE_OPTIONS="--no\-use-env-proxy"`,
				"npm_config_node-options=--use_env_proxy=false"},
			want: slices.Concat([]string{"npm_config_node_options=--inspect"}, standard),
		},
		{
			name: "Chromium",
			base: []string{"CHROMIUM_FLAGS=--no-proxy-server", "CHROMIUM_USER_FLAGS=--headless --proxy-server=direct:// --proxy-bypass-list=*",
				"QTWEBENGINE_CHROMIUM_FLAGS=--proxy-pac-url=http://x/", "WEBVIEW2_ADDITIONAL_BROWSER_ARGUMENTS=--proxy-auto-detect", "ELECTRON_EXTRA_LAUNCH_ARGS=-no-proxy-server"},
			want: slices.Concat([]string{"CHROMIUM_USER_FLAGS=--headless"}, standard),
		},
		{
			name: "remote shells",
			base: []string{"RSYNC_RSH=ssh -o ProxyCommand=none", "CVS_RSH=ssh", "SVN_SSH=ssh", "BZR_SSH=paramiko", "BORG_RSH=ssh"},
			want: standard,
		},
		{
			name: "parts of a proxy's URL",
			base: strings.Fields(`http_proxy_user=u http_proxy_pass=p HTTPS_PROXY_USERNAME=u https_proxy_password=p FTP_PROXY_HOST=x all_proxy_port=1
				YARN_HTTP_PROXY_USER=u SOCKS_PROXY_HOST=x CLOUDSDK_PROXY_RDNS=true CONDA_PROXY_SERVERS__HTTP=x`),
			want: standard,
		},
		{
			name: "wrappers",
			base: strings.Fields(`LD_PRELOAD=/usr/lib/libproxychains4.so PROXYCHAINS_CONF_FILE=/etc/p PROXYCHAINS_QUIET_MODE=1 TSOCKS_CONF_FILE=/t TSOCKS_USERNAME=u
				TORSOCKS_CONF_FILE=/t TORSOCKS_ISOLATE_PID=1 PROXYBOUND_CONF_FILE=/b SOCKS_CONF=/s SOCKS_USERNAME=u SOCKS5_USER=u SOCKS5_PASSWORD=p HTTP_CONNECT_PROXY=x
				DYLD_INSERT_LIBRARIES=/opt/libtsocks.dylib:/opt/libtorsocks.dylib`),
			want: standard,
		},
		{
			name: "wrappers beside others",
			base: []string{"LD_PRELOAD=libjemalloc.so.2 libdsocks.so:/x/libfaketime.so", "DYLD_INSERT_LIBRARIES=/a.dylib"},
			want: slices.Concat([]string{"LD_PRELOAD=libjemalloc.so.2:/x/libfaketime.so", "DYLD_INSERT_LIBRARIES=/a.dylib"}, standard),
		},
		{
			name: "options that say nothing of proxies",
			base: []string{"CFLAGS=-O2  -DNDEBUG -D  X", "LDFLAGS=-Wl,-rpath=/x", "FZF_DEFAULT_OPTS=--prompt='a  b'", "MAKEFLAGS=-j2 --no-print-directory", "EMPTY_OPTS=",
				"LD_PRELOAD=a b", "DOCKER_OPTS=--dns 1.1.1.1"},
			want: slices.Concat([]string{"CFLAGS=-O2  -DNDEBUG -D  X", "LDFLAGS=-Wl,-rpath=/x", "FZF_DEFAULT_OPTS=--prompt='a  b'", "MAKEFLAGS=-j2 --no-print-directory", "EMPTY_OPTS=",
				"LD_PRELOAD=a b", "DOCKER_OPTS=--dns 1.1.1.1"}, standard),
		},
		{
			name: "git",
			base: slices.Concat([]string{"GIT_SSH_COMMAND=ssh -o ProxyJump=corp", "GIT_SSH=/bin/ssh", "GIT_SSH_VARIANT=plink", "GIT_PROXY_COMMAND=x",
				"GIT_CONFIG_PARAMETERS='http.proxy'=''", "GIT_AUTHOR_NAME=a"},
				git("user.name", "a", "http.proxy", "", "http.https://corp.example/.PROXY", "", "remote.origin.proxy", "", "core.gitProxy", "x", "core.sshCommand", "x", "http.version", "HTTP/1.1")),
			want: slices.Concat([]string{"GIT_AUTHOR_NAME=a"}, set(plain), []string{"RSYNC_PROXY=127.0.0.1:40123", java},
				git("user.name", "a", "http.version", "HTTP/1.1", "http.proxy", plain)),
		},
		{
			name: "git, harmless parameters",
			base: []string{"GIT_CONFIG_PARAMETERS='user.name'='a'"},
			want: slices.Concat([]string{"GIT_CONFIG_PARAMETERS='user.name'='a'"}, standard),
		},
		{
			name: "git, a count that is none",
			base: []string{"GIT_CONFIG_COUNT=many", "GIT_CONFIG_KEY_0=user.name", "GIT_CONFIG_VALUE_0=a"},
			want: standard,
		},
		{
			name: "git, a count that is huge",
			base: []string{"GIT_CONFIG_COUNT=2000000000", "GIT_CONFIG_KEY_0=user.name", "GIT_CONFIG_VALUE_0=a"},
			want: slices.Concat(set(plain), []string{"RSYNC_PROXY=127.0.0.1:40123", java}, git("user.name", "a", "http.proxy", plain)),
		},
		{
			name:   "ssh",
			helper: []string{"/opt/my app/networkproxy", "connect", "100%"},
			base:   []string{"GIT_SSH_COMMAND=ssh -i key"},
			want: slices.Concat(standard, []string{
				`GIT_SSH_COMMAND=ssh -o 'ProxyCommand='\''/opt/my app/networkproxy'\'' connect 100%% %h %p' -o ControlMaster=no -o ControlPath=none`}),
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if test.proxy == "" {
				test.proxy = plain
			}
			base := slices.Clone(test.base)
			got := apply(test.base, test.proxy, test.local, test.helper)
			if !slices.Equal(got, test.want) {
				for i := range max(len(got), len(test.want)) {
					g, w := "(nothing)", "(nothing)"
					if i < len(got) {
						g = got[i]
					}
					if i < len(test.want) {
						w = test.want[i]
					}
					if g != w {
						t.Errorf("entry %d: %q, want %q", i, g, w)
					}
				}
			}
			if !slices.Equal(base, test.base) {
				t.Error("base was changed")
			}
			names := make(map[string]bool)
			for _, entry := range got {
				name, _, _ := strings.Cut(entry, "=")
				if names[name] && name != "" {
					t.Errorf("%s is there twice", name)
				}
				names[name] = true
			}
			if again := apply(got, test.proxy, test.local, test.helper); !slices.Equal(slices.Sorted(slices.Values(again)), slices.Sorted(slices.Values(got))) {
				t.Errorf("a child of the child has another environment:\n%q\n%q", again, got)
			}
		})
	}
}

// TestSSHCommand has a shell read the command as git has one read it.
func TestSSHCommand(t *testing.T) {
	t.Parallel()
	env := apply(nil, "http://127.0.0.1:1", false, []string{"/it's/a program", "a b", `$(touch x)`})
	command := strings.TrimPrefix(env[len(env)-1], "GIT_SSH_COMMAND=")
	out, err := exec.Command("/bin/sh", "-c", strings.Replace(command, "ssh ", "printf '%s\\n' ", 1)).Output()
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(words) != 6 || words[0] != "-o" {
		t.Fatalf("ssh would get %q", words)
	}
	// And ssh has a shell read this, with %h and %p filled in.
	inner := strings.TrimPrefix(words[1], "ProxyCommand=")
	out, err = exec.Command("/bin/sh", "-c", "printf '%s\\n' "+inner).Output()
	if want := "/it's/a program\na b\n$(touch x)\n%h\n%p\n"; err != nil || string(out) != want {
		t.Errorf("the helper would get %q, %v; want %q", out, err, want)
	}
}
