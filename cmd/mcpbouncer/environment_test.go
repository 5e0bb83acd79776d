package main

import (
	"bufio"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
)

const (
	keyOne   = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	keyTwo   = "/////////////////////////////////////////wE="
	fragment = "c2VjcmV0" // stands in every wrong key below
)

// clean removes every variable of the sidecar from the test's environment, and sets these.
func clean(t testing.TB, variables map[string]string) {
	t.Helper()
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "BOUNCER_") {
			t.Setenv(name, "")
			os.Unsetenv(name)
		}
	}
	for name, v := range variables {
		t.Setenv(name, v)
	}
	forgetEmpty() // as the program does before anything else
}

func write(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestGoodEnvironments(t *testing.T) {
	const day = 24 * time.Hour
	type want = func(*environment, issuer.Config) bool
	for _, c := range []struct {
		name     string
		variable string
		value    string
		want     want
	}{
		{"defaults", "", "", func(e *environment, c issuer.Config) bool {
			return e.ListenAddr == ":8080" && e.LogLevel == slog.LevelInfo && c.Schedule.Rotation == 30*day && c.Schedule.Overlap == day &&
				c.AccessTokenTTL == time.Hour && c.RefreshTokenTTL == 30*day && c.SessionTTL == day && c.RefreshIdleTTL == 14*day && len(c.Ring.MasterIDs()) == 1
		}},
		{"a ring", "BOUNCER_ENCRYPTION_KEY", keyTwo + "," + keyOne, func(_ *environment, c issuer.Config) bool { return len(c.Ring.MasterIDs()) == 2 }},
		{"a ring with blanks", "BOUNCER_ENCRYPTION_KEY", keyTwo + ", " + keyOne, func(_ *environment, c issuer.Config) bool { return len(c.Ring.MasterIDs()) == 2 }},
		{"an address", "BOUNCER_LISTEN_ADDR", "127.0.0.1:9000", func(e *environment, _ issuer.Config) bool { return e.ListenAddr == "127.0.0.1:9000" }},
		{"an access token's life as a number of hours", "BOUNCER_ACCESS_TOKEN_TTL", "2", func(_ *environment, c issuer.Config) bool { return c.AccessTokenTTL == 2*time.Hour }},
		{"as half an hour", "BOUNCER_ACCESS_TOKEN_TTL", "0.5", func(_ *environment, c issuer.Config) bool { return c.AccessTokenTTL == 30*time.Minute }},
		{"as 15m", "BOUNCER_ACCESS_TOKEN_TTL", "15m", func(_ *environment, c issuer.Config) bool { return c.AccessTokenTTL == 15*time.Minute }},
		{"as 1h", "BOUNCER_ACCESS_TOKEN_TTL", " 1h ", func(_ *environment, c issuer.Config) bool { return c.AccessTokenTTL == time.Hour }},
		{"how long a refresh token may rest", "BOUNCER_REFRESH_IDLE_TTL", "12h", func(_ *environment, c issuer.Config) bool { return c.RefreshIdleTTL == 12*time.Hour }},
		{"a refresh token's life as a number of days", "BOUNCER_REFRESH_TOKEN_TTL", "7", func(_ *environment, c issuer.Config) bool { return c.RefreshTokenTTL == 7*day }},
		{"as 12h", "BOUNCER_REFRESH_TOKEN_TTL", "12h", func(_ *environment, c issuer.Config) bool { return c.RefreshTokenTTL == 12*time.Hour }},
		{"a session's life as a number of hours", "BOUNCER_SESSION_TTL", "8", func(_ *environment, c issuer.Config) bool { return c.SessionTTL == 8*time.Hour }},
		{"a rotation", "BOUNCER_KEY_ROTATION_DAYS", "1", func(_ *environment, c issuer.Config) bool { return c.Schedule.Rotation == day }},
		{"an overlap", "BOUNCER_KEY_OVERLAP_HOURS", "2", func(_ *environment, c issuer.Config) bool { return c.Schedule.Overlap == 2*time.Hour }},
		{"a level", "BOUNCER_LOG_LEVEL", "debug", func(e *environment, _ issuer.Config) bool { return e.LogLevel == slog.LevelDebug }},
		{"a level in capitals", "BOUNCER_LOG_LEVEL", "WARN", func(e *environment, _ issuer.Config) bool { return e.LogLevel == slog.LevelWarn }},
		{"no metadata documents", "BOUNCER_METADATA_DOCUMENTS", "false", func(_ *environment, c issuer.Config) bool { return !*c.MetadataDocuments }},
		{"metadata documents where nothing is said of them", "BOUNCER_DENY", "{}", func(_ *environment, c issuer.Config) bool { return *c.MetadataDocuments }},
		{"a trusted host of documents", "BOUNCER_TRUSTED_METADATA_HOSTS", "apps.internal:443", func(_ *environment, c issuer.Config) bool {
			return slices.Equal(c.TrustedDocumentHosts, []string{"apps.internal:443"})
		}},
		{"several, with blanks, and an address", "BOUNCER_TRUSTED_METADATA_HOSTS", "apps.internal:443, [fd00::1]:8443", func(_ *environment, c issuer.Config) bool {
			return slices.Equal(c.TrustedDocumentHosts, []string{"apps.internal:443", "[fd00::1]:8443"})
		}},
		{"the database's path of old", "BOUNCER_DB_PATH", "/data/bouncer.db", func(e *environment, _ issuer.Config) bool { return e.DBPath != "" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			clean(t, map[string]string{"BOUNCER_ENCRYPTION_KEY": keyOne})
			if c.variable != "" {
				t.Setenv(c.variable, c.value)
			}
			e, err := loadEnvironment()
			if err != nil {
				t.Fatal(err)
			}
			config := e.issuerConfig(slog.New(slog.DiscardHandler))
			if !c.want(e, config) {
				t.Errorf("%+v", config)
			}
			if _, err := issuer.New(config); err != nil {
				t.Error(err)
			}
		})
	}
}

// namesOfVariables are all that the page names, and those that nothing but the code does.
func namesOfVariables(t *testing.T) (names []string) {
	t.Helper()
	for line := range strings.Lines(configuration(t)) {
		if name, _, found := strings.Cut(strings.TrimPrefix(line, "| `"), "` |"); found && name == strings.ToUpper(name) {
			names = append(names, strings.Replace(name, "…", "WIKI_", 1))
		}
	}
	for _, dir := range []string{".", "../../issuer", "../../internal"} {
		err := filepath.WalkDir(dir, func(file string, _ os.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
				return err
			}
			source, err := os.ReadFile(file)
			for _, found := range readVariable.FindAllStringSubmatch(string(source), -1) {
				names = append(names, found[1])
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

var readVariable = regexp.MustCompile(`(?:(?i:getenv)\(|= |first\(|, )"([A-Z][A-Z0-9]*_[A-Z0-9_]+|GOGC)"`)

// `${X:-}` in a compose file sets a variable to nothing. All of them are tried, so that a new one
// is too.
func TestVariablesSetToNothingAreNotSet(t *testing.T) {
	names := namesOfVariables(t)
	for _, name := range []string{
		"BOUNCER_LISTEN_ADDR", "BOUNCER_DB_PATH", "WIKI_CLIENT_SECRET", "OTEL_EXPORTER_OTLP_ENDPOINT", "AWS_LAMBDA_RUNTIME_API", "AWS_REGION", "AWS_SESSION_TOKEN",
		"PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", "DOCKER_HOST", "GOGC",
	} {
		if !slices.Contains(names, name) {
			t.Errorf("%s is not among %q", name, names)
		}
	}
	names = append(names, "WIKI_CLIENT_SECRET_FILE", "SSL_CERT_FILE", "HTTPS_PROXY") // read by Go
	for _, nothing := range []string{"", " ", " \t\n"} {
		clean(t, nil)
		for _, name := range names {
			t.Setenv(name, nothing)
		}
		if err := run([]string{"version"}, strings.NewReader(""), io.Discard); err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if value, set := os.LookupEnv(name); set {
				t.Errorf("%s=%q is read as %q", name, nothing, value)
			}
		}
	}
}

// The sidecar serves as if nothing were set, and its log has no other line.
func TestServeWithEverythingSetToNothing(t *testing.T) {
	variables := map[string]string{}
	for _, name := range namesOfVariables(t) {
		variables[name] = " "
	}
	variables["BOUNCER_ENCRYPTION_KEY"], variables["BOUNCER_LISTEN_ADDR"] = keyOne, "127.0.0.1:0"
	p := program(variables)
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	_ = p.Process.Kill()
	_ = p.Wait()
	if err != nil || !strings.Contains(line, `"msg":"serving"`) || !strings.Contains(line, `"replay_guard":"memory"`) {
		t.Errorf("%q, %v", line, err)
	}
	// which looks at the default address
	text, _ := program(map[string]string{"BOUNCER_LISTEN_ADDR": ""}, "healthcheck").CombinedOutput()
	if strings.Contains(string(text), "BOUNCER_LISTEN_ADDR") && !strings.Contains(string(text), `BOUNCER_LISTEN_ADDR=":8080"`) {
		t.Errorf("healthcheck: %s", text)
	}
}

func TestKeySetToNothingIsNotSet(t *testing.T) {
	for name, key := range map[string]string{"empty": "", "blank": " \n"} {
		t.Run(name, func(t *testing.T) {
			clean(t, map[string]string{"BOUNCER_ENCRYPTION_KEY": key})
			_, err := loadEnvironment()
			wantsError(t, err, "BOUNCER_ENCRYPTION_KEY is not set: make one with `mcpbouncer keygen`")
			clean(t, map[string]string{"BOUNCER_ENCRYPTION_KEY": key, "BOUNCER_ENCRYPTION_KEY_FILE": write(t, keyOne)})
			if _, err := loadEnvironment(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Each variable of Traefik is read through the function that lets blanks count as nothing.
func TestPluginReadsVariablesInOnePlace(t *testing.T) {
	files, err := filepath.Glob("../../plugin/*.go")
	if err != nil || len(files) < 50 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	reads := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		reads += strings.Count(string(source), "os.Getenv") + strings.Count(string(source), "os.LookupEnv") + strings.Count(string(source), "os.Environ")
	}
	if reads != 1 {
		t.Errorf("variables are read in %d places", reads)
	}
}

// The sidecar does not read another program's variable, whatever its name.
func TestVariablesWithoutThePrefixAreNotRead(t *testing.T) {
	clean(t, map[string]string{"BOUNCER_ENCRYPTION_KEY": keyOne})
	for _, name := range []string{"SESSION_TTL", "ACCESS_TOKEN_TTL", "REFRESH_TOKEN_TTL", "REFRESH_IDLE_TTL", "DB_PATH", "TRUSTED_METADATA_HOSTS", "LOG_LEVEL", "LISTEN_ADDR", "DENY"} {
		t.Setenv(name, "not for the sidecar")
	}
	e, err := loadEnvironment()
	if err != nil || e.DBPath != "" || len(e.TrustedMetadataHosts) > 0 || e.Deny != "" || e.ListenAddr != ":8080" {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestKeyMayStandInAFile(t *testing.T) {
	for _, c := range []struct{ name, content string }{
		{"alone", keyOne}, {"with a line break", keyOne + "\n"}, {"as keygen prints its line", "BOUNCER_ENCRYPTION_KEY=" + keyOne + "\n"}, {"as a ring", keyOne + "," + keyTwo},
	} {
		t.Run(c.name, func(t *testing.T) {
			clean(t, map[string]string{"BOUNCER_ENCRYPTION_KEY_FILE": write(t, c.content)})
			if _, err := loadEnvironment(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A variable that cannot be read is refused with what it takes, whatever its type.
func TestBadEnvironments_EveryTypeSaysWhatItTakes(t *testing.T) {
	for field := range reflect.TypeFor[environment]().Fields() {
		text := field.Type.Kind() == reflect.String && field.Type.Name() == "string" || field.Type.Kind() == reflect.Slice
		if field.IsExported() && !text && takes(reflect.New(field.Type).Interface()) == "" {
			t.Errorf("%s: nothing says what a %s takes", field.Name, field.Type)
		}
	}
}

// The error is one line, which names the variable and what to do, and never shows a secret.
func TestBadEnvironments(t *testing.T) {
	const make32 = "not 32 bytes in base64; make one with `mcpbouncer keygen` or `openssl rand -base64 32`"
	const (
		inHours = "give a number of hours, or a time such as 15m or 1h, from 1m to ten years"
		inDays  = "give a number of days, or a time such as 12h, from 1m to ten years"
		whole   = "give a whole number, without a unit"
		level   = "give debug, info, warn or error"
	)
	for _, c := range []struct{ name, variable, value, want string }{
		{"no key", "BOUNCER_ENCRYPTION_KEY", "", "BOUNCER_ENCRYPTION_KEY is not set: make one with `mcpbouncer keygen`"},
		{"a short key", "BOUNCER_ENCRYPTION_KEY", fragment, "BOUNCER_ENCRYPTION_KEY: key 1 of 1: " + make32},
		{"no base64", "BOUNCER_ENCRYPTION_KEY", fragment + "!!", "BOUNCER_ENCRYPTION_KEY: key 1 of 1: " + make32},
		{"base64url", "BOUNCER_ENCRYPTION_KEY", strings.ReplaceAll(keyTwo, "/", "_"), "BOUNCER_ENCRYPTION_KEY: key 1 of 1: " + make32},
		{"a passphrase", "BOUNCER_ENCRYPTION_KEY", "Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5LXN0YXBsZS0xMjM=", "BOUNCER_ENCRYPTION_KEY: key 1 of 1: an encoded text, not random bytes; make one with `mcpbouncer keygen` or `openssl rand -base64 32`"},
		{"a ring with a bad entry", "BOUNCER_ENCRYPTION_KEY", keyOne + "," + fragment, "BOUNCER_ENCRYPTION_KEY: key 2 of 2: " + make32},
		{"a ring with an empty entry", "BOUNCER_ENCRYPTION_KEY", keyOne + ",", "BOUNCER_ENCRYPTION_KEY: key 2 of 2: " + make32},
		{"a ring with the same key twice", "BOUNCER_ENCRYPTION_KEY", keyOne + "," + keyOne, "BOUNCER_ENCRYPTION_KEY: key 2 of 2: the same key stands earlier in the list"},
		{"a ring of six", "BOUNCER_ENCRYPTION_KEY", strings.Repeat(keyOne+",", 5) + keyOne, "BOUNCER_ENCRYPTION_KEY: 6 keys given, at most 5 are allowed"},
		{"a trusted host without a port", "BOUNCER_TRUSTED_METADATA_HOSTS", "apps.internal", `BOUNCER_TRUSTED_METADATA_HOSTS: "apps.internal" is not host:port in lower case, such as apps.internal:443`},
		{"a trusted host that is a URL", "BOUNCER_TRUSTED_METADATA_HOSTS", "https://apps.internal:443", `BOUNCER_TRUSTED_METADATA_HOSTS: "https://apps.internal:443" is not host:port in lower case, such as apps.internal:443`},
		{"a trusted host in capitals", "BOUNCER_TRUSTED_METADATA_HOSTS", "a.internal:443,Apps.internal:443", `BOUNCER_TRUSTED_METADATA_HOSTS: "Apps.internal:443" is not host:port in lower case, such as apps.internal:443`},
		{"no trusted host before a comma", "BOUNCER_TRUSTED_METADATA_HOSTS", ",a.internal:443", `BOUNCER_TRUSTED_METADATA_HOSTS: "" is not host:port in lower case, such as apps.internal:443`},
		{"a name of a secret", "BOUNCER_ENCRYPTION_KEY", "ssm:/mcpbouncer/key", "BOUNCER_ENCRYPTION_KEY: names a secret of AWS, which is read on AWS Lambda only; elsewhere use a variable that ends in _FILE"},
		{"an invoke mode that is none", "BOUNCER_LAMBDA_INVOKE_MODE", "stream", `BOUNCER_LAMBDA_INVOKE_MODE="stream" cannot be read: give BUFFERED or RESPONSE_STREAM`},
		{"a key and a file", "BOUNCER_ENCRYPTION_KEY_FILE", "/dev/null", "BOUNCER_ENCRYPTION_KEY and BOUNCER_ENCRYPTION_KEY_FILE are both set: keep one"},
		{"no rotation", "BOUNCER_KEY_ROTATION_DAYS", "0", "BOUNCER_KEY_ROTATION_DAYS=0 must be from 1 to 3650"},
		{"a negative rotation", "BOUNCER_KEY_ROTATION_DAYS", "-1", "BOUNCER_KEY_ROTATION_DAYS=-1 must be from 1 to 3650"},
		{"a rotation that overflows", "BOUNCER_KEY_ROTATION_DAYS", "213504", "BOUNCER_KEY_ROTATION_DAYS=213504 must be from 1 to 3650"},
		{"a rotation in words", "BOUNCER_KEY_ROTATION_DAYS", "30d", `BOUNCER_KEY_ROTATION_DAYS="30d" cannot be read: ` + whole},
		{"no overlap", "BOUNCER_KEY_OVERLAP_HOURS", "0", "BOUNCER_KEY_OVERLAP_HOURS=0 must be from 1 to 87600"},
		{"an overlap that overflows", "BOUNCER_KEY_OVERLAP_HOURS", "5124096", "BOUNCER_KEY_OVERLAP_HOURS=5124096 must be from 1 to 87600"},
		{"an overlap in words", "BOUNCER_KEY_OVERLAP_HOURS", "1h", `BOUNCER_KEY_OVERLAP_HOURS="1h" cannot be read: ` + whole},
		{"an access token's life in words", "BOUNCER_ACCESS_TOKEN_TTL", "an hour", `BOUNCER_ACCESS_TOKEN_TTL="an hour" cannot be read: ` + inHours},
		{"no life at all", "BOUNCER_ACCESS_TOKEN_TTL", "0", `BOUNCER_ACCESS_TOKEN_TTL="0" cannot be read: ` + inHours},
		{"a negative life", "BOUNCER_ACCESS_TOKEN_TTL", "-1h", `BOUNCER_ACCESS_TOKEN_TTL="-1h" cannot be read: ` + inHours},
		{"a life of a second", "BOUNCER_ACCESS_TOKEN_TTL", "1s", `BOUNCER_ACCESS_TOKEN_TTL="1s" cannot be read: ` + inHours},
		{"an infinite life", "BOUNCER_ACCESS_TOKEN_TTL", "Inf", `BOUNCER_ACCESS_TOKEN_TTL="Inf" cannot be read: ` + inHours},
		{"a life that is no number", "BOUNCER_ACCESS_TOKEN_TTL", "NaN", `BOUNCER_ACCESS_TOKEN_TTL="NaN" cannot be read: ` + inHours},
		{"a life that overflows", "BOUNCER_REFRESH_TOKEN_TTL", "1e300", `BOUNCER_REFRESH_TOKEN_TTL="1e300" cannot be read: ` + inDays},
		{"a refresh token's life in days with a unit", "BOUNCER_REFRESH_TOKEN_TTL", "30d", `BOUNCER_REFRESH_TOKEN_TTL="30d" cannot be read: ` + inDays},
		{"a session's life in words", "BOUNCER_SESSION_TTL", "long", `BOUNCER_SESSION_TTL="long" cannot be read: ` + inHours},
		{"neither true nor false", "BOUNCER_METADATA_DOCUMENTS", "off", `BOUNCER_METADATA_DOCUMENTS="off" cannot be read: give true or false`},
		{"a level that is none", "BOUNCER_LOG_LEVEL", "loud", `BOUNCER_LOG_LEVEL="loud" cannot be read: ` + level},
		{"a level with a line break", "BOUNCER_LOG_LEVEL", "x\ny", `BOUNCER_LOG_LEVEL="x\ny" cannot be read: ` + level},
	} {
		t.Run(c.name, func(t *testing.T) {
			clean(t, map[string]string{"BOUNCER_ENCRYPTION_KEY": keyOne})
			t.Setenv(c.variable, c.value)
			_, err := loadEnvironment()
			wantsError(t, err, c.want)
		})
	}
	t.Run("a file that is not there", func(t *testing.T) {
		clean(t, map[string]string{"BOUNCER_ENCRYPTION_KEY_FILE": "/nowhere/key"})
		_, err := loadEnvironment()
		wantsError(t, err, "BOUNCER_ENCRYPTION_KEY_FILE: open /nowhere/key: no such file or directory")
	})
	t.Run("a file with a bad key", func(t *testing.T) {
		clean(t, map[string]string{"BOUNCER_ENCRYPTION_KEY_FILE": write(t, fragment)})
		_, err := loadEnvironment()
		wantsError(t, err, "BOUNCER_ENCRYPTION_KEY_FILE: key 1 of 1: "+make32)
	})
	t.Run("an empty file", func(t *testing.T) {
		clean(t, map[string]string{"BOUNCER_ENCRYPTION_KEY_FILE": write(t, "\n")})
		_, err := loadEnvironment()
		wantsError(t, err, "BOUNCER_ENCRYPTION_KEY_FILE holds no key: make one with `mcpbouncer keygen`")
	})
}

func wantsError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || err.Error() != want {
		t.Fatalf("error %v\nwant  %s", err, want)
	}
	if strings.ContainsAny(err.Error(), "\r\n") || strings.Contains(err.Error(), fragment) || strings.Contains(err.Error(), keyOne) {
		t.Errorf("more than a line, or a secret: %s", err)
	}
}

// These values are good alone, but not together.
func TestVariablesThatContradictEachOther(t *testing.T) {
	const see = "; see BOUNCER_ACCESS_TOKEN_TTL, BOUNCER_REFRESH_TOKEN_TTL, BOUNCER_REFRESH_IDLE_TTL, BOUNCER_SESSION_TTL, BOUNCER_KEY_ROTATION_DAYS and BOUNCER_KEY_OVERLAP_HOURS"
	for _, c := range []struct {
		name      string
		variables map[string]string
		want      string
	}{
		{"an overlap shorter than a token's life", map[string]string{"BOUNCER_KEY_OVERLAP_HOURS": "1"}, "overlap 1h0m0s is shorter than access-token life + clock skew (1h5m0s): tokens would outlive their key"},
		{"a login shorter than its first token", map[string]string{"BOUNCER_REFRESH_TOKEN_TTL": "30m"}, "token lives must be at least one minute, and a login must outlive an access token"},
		{"a session shorter than its first token", map[string]string{"BOUNCER_SESSION_TTL": "30m"}, "token lives must be at least one minute, and a login must outlive an access token"},
		{"an overlap of years", map[string]string{"BOUNCER_KEY_ROTATION_DAYS": "1", "BOUNCER_KEY_OVERLAP_HOURS": "8760"}, "overlap 8760h0m0s is too long for rotation 24h0m0s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			clean(t, map[string]string{"BOUNCER_ENCRYPTION_KEY": keyOne, "BOUNCER_LISTEN_ADDR": "127.0.0.1:0"})
			for name, v := range c.variables {
				t.Setenv(name, v)
			}
			wantsError(t, run([]string{"serve"}, nil, &strings.Builder{}), c.want+see)
		})
	}
}

func TestSecretVariables(t *testing.T) {
	file := write(t, "from a file\n")
	for _, c := range []struct {
		name, plain, file, want, err string
	}{
		{"plain", "from the variable", "", "from the variable", ""}, {"a file", "", file, "from a file", ""}, {"both", "from the variable", file, "from the variable", ""},
		{"neither", "", "", "", ""}, {"a file that is not there", "", "/nowhere", "", "open /nowhere: no such file or directory"},
		{"with a line break behind it", "from the variable\r\n", "", "from the variable", ""},
		{"blanks beside a file", "  ", file, "from a file", ""}, {"blanks alone", " \n", " ", "", ""},
		{"an empty file", "", "/dev/null", "", "WIKI_CLIENT_SECRET_FILE: /dev/null is empty"},
		{"a reference outside of AWS Lambda", "ssm:/wiki", "", "", errNoExtension.Error()},
	} {
		t.Run(c.name, func(t *testing.T) {
			clean(t, map[string]string{"WIKI_CLIENT_SECRET": c.plain, "WIKI_CLIENT_SECRET_FILE": c.file})
			e, err := readEnvironment()
			if err != nil {
				t.Fatal(err)
			}
			got, err := e.secretVariable("WIKI_CLIENT_SECRET")
			if got != c.want || (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
				t.Errorf("%q, want %q; %v", got, c.want, err)
			}
		})
	}
}
