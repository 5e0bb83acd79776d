package main

import (
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/deny"
	"github.com/mcpbouncer/mcpbouncer/issuer/jsonlog"
	"github.com/mcpbouncer/mcpbouncer/issuer/metrics"
	"github.com/mcpbouncer/mcpbouncer/issuer/replay"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// environment is every variable of the sidecar: BOUNCER_ and the field's name in words. The
// comments are the reference for operators: docs/configuration.md is generated from them
// (configuration_test.go says how), and a comment that begins with # opens a group. The tag default
// is the text that is read where the variable is not set; the comment says it with its unit.
type environment struct {
	// # Secrets
	//
	// What everything else follows from. docs/secrets.md says how to rotate it.

	// EncryptionKey is the master secret: 32 bytes in base64, as `mcpbouncer keygen` prints it. A
	// list with commas is a ring of at most 5 secrets: the first seals, all open. On AWS Lambda
	// also `ssm:NAME` or `secretsmanager:ARN`, which are read at the first request. It excludes
	// `BOUNCER_ENCRYPTION_KEY_FILE`. Required, unless `BOUNCER_ENCRYPTION_KEY_FILE` is set.
	EncryptionKey string

	// EncryptionKeyFile is a file that holds the master secret, or the line that `mcpbouncer
	// keygen` prints. It excludes `BOUNCER_ENCRYPTION_KEY`. Default: none.
	EncryptionKeyFile string

	// # Signing keys
	//
	// How long one key signs, and how long it is published afterwards.

	// KeyRotationDays is for how many days one signing key signs, 1 to 3,650. Default: `30` (days).
	KeyRotationDays int `default:"30"`

	// KeyOverlapHours is for how many hours a signing key is published after its turn, 1 to 87,600:
	// at least the life of an access token and 5 minutes. Default: `24` (hours).
	KeyOverlapHours int `default:"24"`

	// # How long tokens and logins last
	//
	// A number without a unit has the unit of the default. `15m` and `12h` work too. All are from
	// one minute to ten years.

	// AccessTokenTTL is the life of an access token. A number is hours. Default: `1` (hour).
	AccessTokenTTL hours `default:"1"`

	// RefreshTokenTTL is how long a login lasts at most, however often it is refreshed. A number is
	// days. Default: `30` (days).
	RefreshTokenTTL days `default:"30"`

	// SessionTTL is how long a login lasts whose provider gave no refresh token, so that it cannot
	// be asked whether the person may still come in. A number is hours. Default: `24` (hours).
	SessionTTL hours `default:"24"`

	// RefreshIdleTTL is how long a refresh token is accepted while nobody uses it. A number is
	// days. Default: `14` (days).
	RefreshIdleTTL days `default:"14"`

	// # What is remembered, and who is shut out
	//
	// The sidecar itself keeps nothing. docs/replay.md explains both.

	// ReplayGuard is where it is remembered which codes and refresh tokens were used: `none`,
	// `memory`, `redis://HOST:PORT`, `rediss://HOST:PORT` or `dynamodb://TABLE`. Default: `memory`;
	// on AWS Lambda `none`.
	ReplayGuard string

	// Deny is the deny document: the path of a file, an https URL, or the JSON itself. It is read
	// again when it is older than 30 seconds. `mcpbouncer deny` edits one. Default: none, so nobody
	// is shut out.
	Deny string

	// # Client metadata documents
	//
	// Documents by which clients introduce themselves. docs/clients.md says what they need of the
	// network.

	// MetadataDocuments is whether a `client_id` may be the URL of a client metadata document. Set
	// `false` where the sidecar cannot reach the internet: clients then register instead. Default:
	// `true`.
	MetadataDocuments bool `default:"true"`

	// TrustedMetadataHosts are the hosts of client metadata documents that may have a private
	// address: `HOST:PORT` in lower case, separated by commas. All other documents must be at
	// public addresses. Default: none.
	TrustedMetadataHosts []string

	// # Without the plugin
	//
	// For people without Traefik: docs/gateway.md, and for other proxies docs/forward-auth.md.

	// Tenants is the path of the tenants file. `mcpbouncer gateway` stands before these MCP
	// servers; `mcpbouncer serve` answers other proxies at `/forward-auth/NAME`. It is read again
	// when it changes. Required by `gateway`; without it `serve` answers plugins only.
	Tenants string

	// GatewayAddr is the address on which `mcpbouncer gateway` listens for clients. Default:
	// `:443`; without TLS `:8000`.
	GatewayAddr string

	// TLSCert is a file with the gateway's certificate and its chain, PEM. It is read again when it
	// changes. It needs `BOUNCER_TLS_KEY`, and excludes `BOUNCER_ACME_DIR` and
	// `BOUNCER_TLS_ELSEWHERE`. Default: none.
	TLSCert string

	// TLSKey is the file with the key of that certificate, PEM. Default: none.
	TLSKey string

	// ACMEDir is a folder for certificates that the gateway gets by ACME (RFC 8555) for the hosts
	// of its tenants. The authority must reach the gateway at port 443. Setting it accepts the
	// authority's terms. Default: none.
	ACMEDir string

	// ACMEServer is the directory URL of the authority. Default:
	// `https://acme-v02.api.letsencrypt.org/directory`.
	ACMEServer string

	// ACMEEmail is the address that the authority may write to. Default: none.
	ACMEEmail string

	// TLSElsewhere is whether TLS ends at a proxy of yours before the gateway. What that proxy says
	// of the client's address is then believed, so let nobody else reach the gateway. Default:
	// `false`.
	TLSElsewhere bool

	// # The process
	//
	// Where it listens, what it logs, and how AWS Lambda calls it.

	// ListenAddr is the address on which the sidecar listens. Default: `:8080`.
	ListenAddr string `default:":8080"`

	// MetricsAddr is the address on which `GET /metrics` is served to Prometheus, such as `:9090`;
	// never `BOUNCER_LISTEN_ADDR`. Not on AWS Lambda. Default: none, so nothing is counted.
	MetricsAddr string

	// MetricsEMF is whether, on AWS Lambda, what was counted goes to the log in CloudWatch's
	// embedded metric format, of which CloudWatch makes metrics that cost money. docs/metrics.md
	// says which. Default: `false`.
	MetricsEMF bool

	// LogLevel is the least level that is logged: `debug`, `info`, `warn` or `error`. Default:
	// `info`.
	LogLevel slog.Level `default:"info"`

	// LogSubjects is whether the log names people by the provider's subject too, beside the
	// pseudonym. docs/audit.md lists the events. Default: `false`.
	LogSubjects bool

	// LambdaInvokeMode is the InvokeMode of the Function URL on AWS Lambda: `BUFFERED` or
	// `RESPONSE_STREAM`. Default: `BUFFERED`.
	LambdaInvokeMode invokeMode `default:"BUFFERED"`

	// DBPath is accepted and ignored: no database is kept. Default: none.
	DBPath string

	ring      *sealing.Ring
	extension *extension // of AWS Lambda: reads secrets that variables only name
}

const variablePrefix = "BOUNCER_"

// hours and days are durations whose bare numbers have the unit that the variable has always had.
type (
	hours time.Duration
	days  time.Duration
)

func (h *hours) Decode(text string) error { return decodeLife((*time.Duration)(h), text, time.Hour) }
func (d *days) Decode(text string) error  { return decodeLife((*time.Duration)(d), text, 24*time.Hour) }

// maxDays is ten years, for every life and period: far longer ones overflow a time.Duration.
const maxDays = 3650

const lives = "from 1m to ten years"

var errLife = errors.New(lives)

func decodeLife(into *time.Duration, text string, unit time.Duration) error {
	text = strings.TrimSpace(text)
	d, err := time.ParseDuration(text)
	if n, errNumber := strconv.ParseFloat(text, 64); errNumber == nil {
		d, err = time.Duration(n*float64(unit)), nil
	}
	if err != nil || d < time.Minute || d > maxDays*24*time.Hour {
		return errLife
	}
	*into = d
	return nil
}

// readEnvironment reads the variables without the secrets' files.
func readEnvironment() (*environment, error) {
	e := &environment{extension: newExtension()}
	fields := reflect.ValueOf(e).Elem()
	for i := range fields.NumField() {
		field := fields.Type().Field(i)
		if !field.IsExported() {
			continue
		}
		variable := variableOf(field.Name)
		text, set := os.LookupEnv(variable)
		if !set {
			if text = field.Tag.Get("default"); text == "" {
				continue
			}
		}
		// No secret has a type that can fail, so that the error may show the value.
		if into := fields.Field(i).Addr().Interface(); readInto(into, text) != nil {
			return nil, fmt.Errorf("%s=%q cannot be read: %s", variable, text, takes(into))
		}
	}
	return e, nil
}

// variableOf puts a field's words apart: AccessTokenTTL is BOUNCER_ACCESS_TOKEN_TTL, and DBPath
// BOUNCER_DB_PATH.
func variableOf(field string) string {
	isLower := func(at int) bool { return at < len(field) && field[at] >= 'a' }
	name := []byte(variablePrefix)
	for i := range len(field) {
		if i > 0 && !isLower(i) && (isLower(i-1) || isLower(i+1)) {
			name = append(name, '_')
		}
		name = append(name, field[i])
	}
	return strings.ToUpper(string(name))
}

// decoder is a type that reads what a variable says.
type decoder interface{ Decode(text string) error }

func readInto(field any, text string) (err error) {
	switch field := field.(type) {
	case *string:
		*field = text
	case *[]string:
		*field = strings.Split(text, ",")
	case *bool:
		*field, err = strconv.ParseBool(text)
	case *int:
		var n int64
		n, err = strconv.ParseInt(text, 0, strconv.IntSize)
		*field = int(n)
	case decoder:
		err = field.Decode(text)
	case encoding.TextUnmarshaler:
		err = field.UnmarshalText([]byte(text))
	default:
		panic(fmt.Sprintf("internal error: no variable can be a %T", field))
	}
	return err
}

// forgetEmpty unsets every variable that is set to nothing or to blanks, whoever reads it: ours,
// those of AWS and OpenTelemetry, and those of Go's libraries. `BOUNCER_LISTEN_ADDR: ${ADDR:-}` in
// a compose file means that nobody has set it. An empty TZ stays, because Go takes it for UTC and
// none for the machine's zone.
func forgetEmpty() {
	for _, variable := range os.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		if strings.TrimSpace(value) == "" && name != "TZ" {
			os.Unsetenv(name)
		}
	}
}

// takes says what a variable is to be given, by its field; empty where it takes every text.
func takes(field any) string {
	switch field.(type) {
	case *hours:
		return "give a number of hours, or a time such as 15m or 1h, " + lives
	case *days:
		return "give a number of days, or a time such as 12h, " + lives
	case *int:
		return "give a whole number, without a unit"
	case *bool:
		return "give true or false"
	case *slog.Level:
		return "give debug, info, warn or error"
	case *invokeMode:
		return "give BUFFERED or RESPONSE_STREAM"
	}
	return ""
}

// loadEnvironment reads and checks everything. Every error names the variable and the remedy, never
// a secret.
func loadEnvironment() (*environment, error) {
	e, err := readEnvironment()
	if err == nil {
		err = e.load()
	}
	if err != nil {
		return nil, err
	}
	return e, nil
}

// load reads what the variables name, and checks everything.
func (e *environment) load() (err error) {
	key, variable := e.EncryptionKey, "BOUNCER_ENCRYPTION_KEY"
	if e.EncryptionKeyFile != "" {
		if key != "" {
			return errors.New("BOUNCER_ENCRYPTION_KEY and BOUNCER_ENCRYPTION_KEY_FILE are both set: keep one")
		}
		variable = "BOUNCER_ENCRYPTION_KEY_FILE"
		content, err := os.ReadFile(e.EncryptionKeyFile)
		if err != nil {
			return fmt.Errorf("%s: %w", variable, err)
		}
		key = keyOf(string(content))
		if key == "" {
			return errors.New("BOUNCER_ENCRYPTION_KEY_FILE holds no key: make one with `mcpbouncer keygen`")
		}
	}
	if key == "" {
		return errors.New("BOUNCER_ENCRYPTION_KEY is not set: make one with `mcpbouncer keygen`")
	}
	if isReference(key) {
		secret, err := e.extension.read(key)
		if err != nil {
			return fmt.Errorf("%s: %w", variable, err)
		}
		key = keyOf(secret)
	}
	if e.ring, err = sealing.ParseRing(key); err != nil {
		e.extension.forget(e.EncryptionKey) // it is asked for again when somebody has mended it
		return fmt.Errorf("%s: %w", variable, err)
	}
	if e.KeyRotationDays < 1 || e.KeyRotationDays > maxDays {
		return fmt.Errorf("BOUNCER_KEY_ROTATION_DAYS=%d must be from 1 to %d", e.KeyRotationDays, maxDays)
	}
	if e.KeyOverlapHours < 1 || e.KeyOverlapHours > maxDays*24 {
		return fmt.Errorf("BOUNCER_KEY_OVERLAP_HOURS=%d must be from 1 to %d", e.KeyOverlapHours, maxDays*24)
	}
	for i, host := range e.TrustedMetadataHosts {
		// Compared with what is dialled, to the letter: an entry in another form would trust
		// nothing and say nothing.
		host = strings.TrimSpace(host)
		if name, port, err := net.SplitHostPort(host); err != nil || name == "" || port == "" || host != strings.ToLower(host) {
			return fmt.Errorf("BOUNCER_TRUSTED_METADATA_HOSTS: %q is not host:port in lower case, such as apps.internal:443", host)
		}
		e.TrustedMetadataHosts[i] = host
	}
	return nil
}

// keyOf takes the value of BOUNCER_ENCRYPTION_KEY from a text that is it, or the line that keygen
// prints.
func keyOf(text string) string {
	return strings.TrimPrefix(strings.TrimSpace(text), "BOUNCER_ENCRYPTION_KEY=")
}

func (e *environment) logger(out io.Writer) *slog.Logger {
	return slog.New(jsonlog.New(out, e.LogLevel))
}

func (e *environment) issuerConfig(log *slog.Logger) issuer.Config {
	var counted *metrics.Metrics
	lambda := onLambda()
	switch {
	case lambda && e.MetricsEMF:
		counted = metrics.NewForLines(os.Getenv("AWS_LAMBDA_FUNCTION_NAME"))
	case !lambda && metrics.Served && e.MetricsAddr != "":
		counted = metrics.New()
	case e.MetricsEMF || e.MetricsAddr != "":
		log.Warn("nothing is counted: BOUNCER_METRICS_EMF is for AWS Lambda, and BOUNCER_METRICS_ADDR for everywhere else, where the program is not that of the zip")
	}
	return issuer.Config{
		Ring:    e.ring,
		Metrics: counted,
		Schedule: sealing.Schedule{
			Rotation: time.Duration(e.KeyRotationDays) * 24 * time.Hour,
			Overlap:  time.Duration(e.KeyOverlapHours) * time.Hour,
		},
		AccessTokenTTL:  time.Duration(e.AccessTokenTTL),
		RefreshTokenTTL: time.Duration(e.RefreshTokenTTL),
		SessionTTL:      time.Duration(e.SessionTTL),
		RefreshIdleTTL:  time.Duration(e.RefreshIdleTTL),
		Version:         version(),
		Log:             log,
		LogSubjects:     e.LogSubjects,
		OnLambda:        onLambda(),
		Getenv: func(name string) string {
			secret, err := e.secretVariable(name)
			if err != nil {
				log.Error("client secret", "variable", name, "cause", err)
			}
			return secret
		},

		MetadataDocuments:    &e.MetadataDocuments,
		TrustedDocumentHosts: e.TrustedMetadataHosts,
	}
}

// openStores opens what the sidecar may remember in, and the operator's list. Neither is needed:
// the sidecar itself keeps nothing.
func (e *environment) openStores(c *issuer.Config) (err error) {
	guard := e.ReplayGuard
	if guard == "" {
		guard = "memory"
		// an environment of Lambda sees a part of the requests, and is gone when it pleases
		if onLambda() {
			guard = "none"
		}
	}
	if c.ReplayGuard, err = replay.Open(guard, cmp.Or(c.RefreshIdleTTL, c.RefreshTokenTTL), c.RefreshTokenTTL, issuer.WallClock); err != nil {
		return fmt.Errorf("BOUNCER_REPLAY_GUARD: %w", err)
	}
	if e.Deny != "" {
		if c.Deny, err = deny.Open(e.Deny, nil); err != nil {
			return fmt.Errorf("BOUNCER_DENY: %w", err)
		}
	}
	return nil
}

// secretVariable is a secret in NAME, or where NAME or NAME_FILE says; empty when there is none.
func (e *environment) secretVariable(name string) (string, error) {
	if value := os.Getenv(name); isReference(value) {
		return e.extension.read(value)
	} else if secret := strings.TrimSpace(value); secret != "" {
		// $(cat FILE) and .env files leave line breaks
		return secret, nil
	}
	file := os.Getenv(name + "_FILE")
	if file == "" {
		return "", nil
	}
	content, err := os.ReadFile(file)
	secret := strings.TrimSpace(string(content))
	if err == nil && secret == "" {
		err = fmt.Errorf("%s_FILE: %s is empty", name, file)
	}
	return secret, err
}
