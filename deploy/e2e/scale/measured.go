package scale

// The inputs of the simulation. Measured are those of docs/benchmarks.json and docs/limits.md, on
// the machine that is named there; the test of this package holds them against those, and
// TestScaleIsThatOfARealSidecar against a real run. Assumed are how people work: change them to
// yours, and run `go run ./cmd/scale`.

// Processor time in microseconds.
const (
	traefikBare     = 110.0 // a message of 1 KB through Traefik without a middleware
	pluginKnown     = 48.0  // what the plugin adds to it, token known
	pluginFirst     = 100.0 // and at the first sight of a token
	sidecarRefresh  = 127.0 // guard Redis
	sidecarChecked  = 110.0 // what asking the provider adds to a refresh
	sidecarLogin    = 900.0
	sidecarRegister = 40.0
	sidecarPoll     = 24.0 // keys or deny document, which have not changed
)

// Bytes.
const (
	tenantBytes   = 12 << 10 // in the plugin
	tokenBytes    = 512
	tokensKept    = 65_536    // of a tenant, in two generations
	guardLogins   = 1_048_576 // of the guard memory
	refreshLine   = 430       // of the sidecar's log
	loginLines    = 2200
	guardUnits    = 5 // DynamoDB's write units of a refresh that asks the provider: three writes
	guardReads    = 2
	loginUnits    = 2
	denyPeriod    = 30.0 // seconds between two questions of a Traefik, for each tenant
	keysPeriod    = 300.0
	traefikMemory = 4 << 30
	providerLimit = 100.0 // token requests a second: Auth0 Enterprise, all applications of a tenant
	writePrice    = 0.625 // dollars for a million write units, on demand, us-east-1
	readPrice     = 0.125
)

// Assumed.
const (
	peoplePerTenant = 1000 // people of one MCP server
	loginsPerPerson = 2
	callsPerDay     = 200 // messages of a person
	hoursPerDay     = 8   // in which each login refreshes once, as access tokens live an hour
	busiestHour     = 0.15
	loginDays       = 30 // until somebody logs in again
	workdays        = 22 // of a month
	cores           = 4  // of a Traefik, and of a sidecar
	load            = 0.6
)
