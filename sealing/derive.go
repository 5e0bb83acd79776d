package sealing

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash"
	"math/big"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Every key of MCPBouncer is derived in this file, under one of these labels. A label is never
// reused and never changed: docs/sealed-values.md publishes them with test vectors.
const (
	labelExtract = "mcpbouncer/v1/extract" // HKDF-Extract salt: master secret → PRK
	// 3 bytes, public: which master sealed a value
	labelMasterID = "mcpbouncer/v1/master-id"
	labelSeal     = "mcpbouncer/v1/seal" // AES-256 key of (kind, tenant, period)
	// first bytes of a sealed value's additional data
	labelSealAAD      = "mcpbouncer/v1/value"
	labelSign         = "mcpbouncer/v1/sign-ed25519"  // Ed25519 seed of (tenant, rotation, epoch)
	labelClientSecret = "mcpbouncer/v1/client-secret" // HMAC key of a tenant's confidential clients
	labelPseudonym    = "mcpbouncer/v1/log-pseudonym" // HMAC key for subjects in the log
	// hop key, and first bytes of its additional data
	labelHop = "mcpbouncer/v1/hop"
	// 3 bytes, public: which hop key sealed a header
	labelHopKeyID = "mcpbouncer/v1/hop-key-id"
	// HMAC over a hop header: what the answer to it bears
	labelHopMark = "mcpbouncer/v1/hop-mark"
	// AES-256 key from a hop header, and additional data: why it is refused
	labelHopReason = "mcpbouncer/v1/hop-reason"
	// HMAC key from a hop key, of the nonces that a public URL gives to clients
	labelDPoPNonce = "mcpbouncer/v1/dpop-nonce"
	// AES-256 key from a hop key, and additional data: the provider's token in an access token
	labelUpstreamToken = "mcpbouncer/v1/upstream-token"
	labelFingerprint   = "mcpbouncer/v1/fingerprint" // short public name of a client_id in logs
	// 16 bytes: under which a replay store knows a code or a login
	labelReplayMark = "mcpbouncer/v1/replay-mark"
	// P-256 key by which a client at a provider proves itself
	labelClientKey = "mcpbouncer/v1/client-p256"
	// AES-256 key of an answer in a replay store, from the value presented
	labelReplayAnswer = "mcpbouncer/v1/replay-answer"
	labelLoginState   = "mcpbouncer/v1/login-state" // from a login's seed, not from the master
	labelLoginNonce   = "mcpbouncer/v1/login-nonce"
	labelLoginPKCE    = "mcpbouncer/v1/login-pkce"
)

// Kind says what a sealed value is. It is part of the key, of the additional data and of the
// printed prefix: without it, an authorization code could be presented as a refresh token.
type Kind byte

const (
	KindClient     Kind = 'c' // client registration: the client_id itself
	KindConsent    Kind = 'k' // an authorization request that waits for the person's answer
	KindFlow       Kind = 'f' // a login at the upstream provider, in the browser's cookie
	KindRemembered Kind = 'm' // a consent that the person wants remembered, in the browser's cookie
	KindCode       Kind = 'a' // authorization code
	KindRefresh    Kind = 'r' // refresh token
	KindSecret     Kind = 's' // upstream client secret, sealed for a label
	KindBearer     Kind = 'b' // bearer key, for a machine that can only send a header
)

type kindFacts struct {
	purpose string
	period  time.Duration // one AES key seals at most this long, far below 2^32 values
	life    time.Duration // refused when older; 0: the payload, or nothing, limits it
}

// A client_id never expires by age: clients keep theirs for ever and do not register again.
// A refresh token's and a bearer key's life is chosen, so the payload carries it.
var kinds = map[Kind]kindFacts{
	KindClient:     {"client", 30 * 24 * time.Hour, 0},
	KindConsent:    {"consent", 24 * time.Hour, 15 * time.Minute},
	KindFlow:       {"flow", 24 * time.Hour, 15 * time.Minute},
	KindRemembered: {"remembered", 7 * 24 * time.Hour, 30 * 24 * time.Hour},
	KindCode:       {"code", 24 * time.Hour, time.Minute},
	KindRefresh:    {"refresh", 7 * 24 * time.Hour, 0},
	KindSecret:     {"secret", 30 * 24 * time.Hour, 0},
	KindBearer:     {"bearer", 30 * 24 * time.Hour, 0},
}

// Life is how long a value of this kind opens, skew aside; 0: the payload, or nothing, limits it.
func (k Kind) Life() time.Duration { return kinds[k].life }

// Kinds lists every kind, in the order of a login.
var Kinds = []Kind{KindClient, KindConsent, KindFlow, KindRemembered, KindCode, KindRefresh, KindSecret, KindBearer}

// Tenant is what makes one protected MCP server different from every other. All of it goes into
// every derivation: whoever can forge one of these facts gets keys that nobody else uses.
type Tenant struct {
	PublicURL        string
	Resource         string
	Audience         string
	UpstreamIssuer   string
	UpstreamClientID string
	Generation       uint32
}

// TenantID names a tenant in every derivation.
type TenantID [sha256.Size]byte

// ID is SHA-256 over the length-prefixed facts, in the order of the fields.
func (t Tenant) ID() TenantID {
	var b []byte
	for _, s := range []string{t.PublicURL, t.Resource, t.Audience, t.UpstreamIssuer, t.UpstreamClientID} {
		b = lp(b, s)
	}
	return sha256.Sum256(binary.BigEndian.AppendUint32(b, t.Generation))
}

// IsPublicURL says whether a public URL has the one form that the plugin gives it: http or https, a
// host in small letters, no default port, no user, no query, no fragment, no slash at the end. The
// same server under a URL in another form would be another tenant.
func IsPublicURL(publicURL string) bool {
	u, err := url.Parse(publicURL)
	return err == nil && (u.Scheme == "https" && u.Port() != "443" || u.Scheme == "http" && u.Port() != "80") &&
		u.Host != "" && u.Host == strings.ToLower(u.Host) && u.User == nil && !strings.HasSuffix(publicURL, "/") && !strings.ContainsAny(publicURL, "?#")
}

// lp appends s with its length, so that ("ab", "c") and ("a", "bc") stay different. Lengths over
// 65,535 cannot occur: every input is capped far below where it enters the program.
func lp(b []byte, s string) []byte {
	if len(s) > 0xffff {
		panic("sealing: internal error: oversized derivation input")
	}
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

func (m master) expand(info []byte, size int) []byte {
	key, err := hkdf.Expand(sha256.New, m.prk, string(info), size)
	if err != nil {
		panic("sealing: internal error: " + err.Error())
	}
	return key
}

func (m master) sealingKey(kind Kind, tenant TenantID, period uint32) []byte {
	info := lp(lp(lp(nil, labelSeal), kinds[kind].purpose), string(tenant[:]))
	return m.expand(binary.BigEndian.AppendUint32(info, period), 32)
}

func (m master) signingKey(tenant TenantID, rotation time.Duration, epoch uint32) ed25519.PrivateKey {
	info := lp(lp(nil, labelSign), string(tenant[:]))
	info = binary.BigEndian.AppendUint32(info, uint32(rotation/time.Second))
	return ed25519.NewKeyFromSeed(m.expand(binary.BigEndian.AppendUint32(info, epoch), ed25519.SeedSize))
}

func (m master) hopKey() []byte {
	return m.expand(lp(nil, labelHop), 32)
}

// macName is what an HMAC key of a tenant is derived for.
type macName struct {
	master [3]byte
	label  string
	tenant TenantID
}

// keyedMAC is HMAC-SHA-256 under one key, made ready once.
type keyedMAC struct {
	mu      sync.Mutex // guards all below for one message
	mac     hash.Hash
	message []byte
}

func (k *keyedMAC) of(message string) (sum [sha256.Size]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.mac.Reset()
	k.message = append(k.message[:0], message...)
	k.mac.Write(k.message)
	k.mac.Sum(sum[:0])
	if cap(k.message) > keptMessage {
		k.message = nil
	}
	return sum
}

// keptMessage is the longest message whose room is kept for the next one, in bytes. Strangers
// register clients whose ids are twenty times as long, and each tenant has a keyedMAC.
const keptMessage = 512

func (r *Ring) tenantMAC(m master, label string, tenant TenantID, message string) [sha256.Size]byte {
	return r.macs.get(macName{m.id, label, tenant}, func() *keyedMAC {
		return &keyedMAC{mac: hmac.New(sha256.New, m.expand(lp(lp(nil, label), string(tenant[:])), 32))}
	}).of(message)
}

// ClientSecret is the secret of the confidential client that clientID registers: 43 characters,
// derived, never stored. It is derived from the master that sealed the registration, so it stays
// the same while the ring turns.
func (r *Ring) ClientSecret(tenant TenantID, clientID string) (string, error) {
	_, header, _, err := decode(KindClient, clientID)
	if err != nil {
		return "", err
	}
	m, ok := r.byID(header)
	if !ok {
		return "", ErrNotOpened
	}
	sum := r.tenantMAC(m, labelClientSecret, tenant, clientID)
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}

// ClientKeys are the P-256 keys (for ES256) with which the client of this id authenticates at this
// provider: the first master's, which signs, then those of the others. They are bound to the
// provider and not to a tenant, as a sealed client secret is: what the operator has registered
// there stays right when a label changes or a generation is raised, and serves all tenants that
// share the client. They sign nothing else.
func (r *Ring) ClientKeys(issuer, clientID string) []*ecdsa.PrivateKey {
	var keys []*ecdsa.PrivateKey
	for _, m := range r.masters {
		keys = append(keys, m.clientKey(issuer, clientID))
	}
	return keys
}

// clientKey takes 16 bytes more than a scalar has, so that the remainder is as good as uniform
// (FIPS 186-5 A.2.1): 1 to the group's order less one.
func (m master) clientKey(issuer, clientID string) *ecdsa.PrivateKey {
	wide := new(big.Int).SetBytes(m.expand(lp(lp(lp(nil, labelClientKey), issuer), clientID), 48))
	least := big.NewInt(1)
	scalar := wide.Mod(wide, new(big.Int).Sub(elliptic.P256().Params().N, least))
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar.Add(scalar, least).FillBytes(make([]byte, 32)))
	if err != nil {
		panic("sealing: internal error: " + err.Error())
	}
	return key
}

// Pseudonym names a subject in the log: 16 characters, the same for the same subject of the same
// tenant until another master becomes the first, and useless to somebody who has only the log.
func (r *Ring) Pseudonym(tenant TenantID, subject string) string {
	return r.pseudonym(r.masters[0], tenant, subject)
}

// Pseudonyms are what each master of the ring calls a subject, in the order of MasterIDs: the first
// is Pseudonym, the others stand in lines from when another master was the first.
func (r *Ring) Pseudonyms(tenant TenantID, subject string) []string {
	all := make([]string, len(r.masters))
	for i, m := range r.masters {
		all[i] = r.pseudonym(m, tenant, subject)
	}
	return all
}

func (r *Ring) pseudonym(m master, tenant TenantID, subject string) string {
	sum := r.tenantMAC(m, labelPseudonym, tenant, subject)
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// Fingerprint names a client_id in the log and in operators' lists: 16 characters. It needs no key,
// for a client_id is not a secret.
func Fingerprint(clientID string) string {
	b := make([]byte, 0, 512) // on the stack, where most ids have room
	sum := sha256.Sum256(lp(lp(b, labelFingerprint), clientID))
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// ReplayMark is the key under which a replay store knows a value of a tenant that may be used once.
// It needs no key, so that it stays the same while the ring turns; the values are random and too
// long to guess.
func ReplayMark(tenant TenantID, use, value string) [16]byte {
	b := make([]byte, 0, len(labelReplayMark)+len(use)+len(tenant)+len(value)+4*2)
	sum := sha256.Sum256(lp(lp(lp(lp(b, labelReplayMark), use), string(tenant[:])), value))
	return [16]byte(sum[:16])
}

// SealAnswer encrypts what was answered to the presented value, for whoever presents it again: the
// key follows from that value, which the store that keeps the answer never sees.
func SealAnswer(tenant TenantID, presented string, answer []byte) []byte {
	return newGCM(answerKey(tenant, presented)).Seal(nil, nil, answer, nil)
}

// OpenAnswer is the reverse of SealAnswer; any failure is ErrNotOpened.
func OpenAnswer(tenant TenantID, presented string, sealed []byte) ([]byte, error) {
	answer, err := newGCM(answerKey(tenant, presented)).Open(nil, nil, sealed, nil)
	if err != nil {
		return nil, ErrNotOpened
	}
	return answer, nil
}

// saltless are HMACs for HKDF-Extract without a salt (RFC 5869 §2.2), made ready once. None that
// waits here holds anything of what it was used for.
var saltless = sync.Pool{New: func() any { return hmac.New(sha256.New, nil) }}

func answerKey(tenant TenantID, presented string) []byte {
	mac := saltless.Get().(hash.Hash)
	mac.Write([]byte(presented))
	extracted := mac.Sum(nil)
	mac.Reset()
	saltless.Put(mac)
	info := make([]byte, 0, len(labelReplayAnswer)+len(tenant)+2*2)
	key, err := hkdf.Expand(sha256.New, extracted, string(lp(lp(info, labelReplayAnswer), string(tenant[:]))), 32)
	if err != nil {
		panic("sealing: internal error: " + err.Error())
	}
	return key
}

// LoginSeed is the one random number of a login at the upstream provider. The values that the
// provider sees of it (state, nonce, PKCE challenge) do not reveal it.
type LoginSeed [32]byte

func (s LoginSeed) derive(label string, size int) string {
	mac := hmac.New(sha256.New, s[:])
	mac.Write([]byte(label))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:size])
}

// State is the `state` parameter sent upstream: 22 characters that also name the flow.
func (s LoginSeed) State() string { return s.derive(labelLoginState, 16) }

// Nonce is the OpenID Connect nonce (Core §3.1.2.1), 22 characters.
func (s LoginSeed) Nonce() string { return s.derive(labelLoginNonce, 16) }

// CodeVerifier is the upstream PKCE verifier (RFC 7636 §4.1), 43 characters.
func (s LoginSeed) CodeVerifier() string { return s.derive(labelLoginPKCE, 32) }
