package replay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/gomodule/redigo/redis"

	"github.com/mcpbouncer/mcpbouncer/issuer/lazyregexp"
	"github.com/mcpbouncer/mcpbouncer/issuer/outgoing"
)

// redisStore is a Store in Redis or Valkey, which all replicas share.
//
//	mcpb:{KEY}    the number, as decimal text, for its life
//	mcpb:{KEY}:n  the note, for Grace
//
// Both names hash to one slot of a cluster.
type redisStore struct {
	pool        *redis.Pool
	raise, drop *redis.Script
}

const (
	redisDialTimeout = time.Second
	redisTimeout     = 500 * time.Millisecond // for one answer
)

// errIdle gives up a connection without asking whether it lives: a connection that a network has
// forgotten would answer a PING with silence.
var errIdle = errors.New("redis: idle for too long")

var redisDatabase = lazyregexp.Regexp{Text: `^/?[0-9]*$`}

func newRedisStore(address string) (*redisStore, error) {
	if u, err := url.Parse(address); err != nil || u.Host == "" || !redisDatabase.Get().MatchString(u.Path) {
		// the address may hold a password
		return nil, errors.New("not a URL such as rediss://user:password@host:6379/0")
	}
	pool := &redis.Pool{
		DialContext: func(ctx context.Context) (redis.Conn, error) {
			c, err := redis.DialURLContext(ctx, address, redis.DialConnectTimeout(redisDialTimeout), redis.DialReadTimeout(redisTimeout),
				redis.DialWriteTimeout(redisTimeout), redis.DialTLSHandshakeTimeout(redisDialTimeout), redis.DialTLSConfig(&tls.Config{MinVersion: tls.VersionTLS12}))
			if err != nil {
				return nil, err
			}
			if err := checkRedisPolicy(c); err != nil {
				c.Close()
				return nil, err
			}
			return c, nil
		},
		// the server may have been restarted meanwhile
		TestOnBorrow: func(c redis.Conn, idleSince time.Time) error {
			// By the wall clock: the monotonic clock stands still while a process is frozen. After
			// the wall clock was set back, nothing is known of the connection.
			idle := time.Since(idleSince.Round(0))
			if idle > outgoing.IdleLimit || idle < 0 {
				return errIdle
			}
			if idle < time.Second {
				return nil
			}
			_, err := c.Do("PING")
			return err
		},
		MaxIdle: 16, MaxActive: 64, Wait: true, IdleTimeout: outgoing.IdleLimit,
	}
	return &redisStore{pool, redis.NewScript(2, raiseScript), redis.NewScript(2, dropScript)}, nil
}

// errRedisPolicy refuses a server that evicts: what it has forgotten can be replayed.
var errRedisPolicy = errors.New("maxmemory-policy must be noeviction")

// checkRedisPolicy is called for each new connection: the policy can be changed at any time, and
// another server can take over. INFO is allowed where CONFIG is not.
func checkRedisPolicy(c redis.Conn) error {
	info, err := redis.String(c.Do("INFO", "memory"))
	if err != nil {
		return err
	}
	for line := range strings.Lines(info) {
		if policy, ok := strings.CutPrefix(strings.TrimSpace(line), "maxmemory_policy:"); ok && policy != "noeviction" {
			return fmt.Errorf("%w, and is %s", errRedisPolicy, policy)
		}
	}
	return nil
}

// raiseScript returns a number that stands in the way, with its note; otherwise nothing.
const raiseScript = `
local number = redis.call('GET', KEYS[1])
if number and tonumber(number) > tonumber(ARGV[1]) then
	return {number, redis.call('GET', KEYS[2])}
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
if ARGV[4] == '' then
	redis.call('DEL', KEYS[2])
else
	redis.call('SET', KEYS[2], ARGV[4], 'PX', ARGV[5])
end
return {}`

func (s *redisStore) Raise(ctx context.Context, key Key, from, to uint32, note []byte, life time.Duration) (known Record, done bool, err error) {
	number, beside := redisNames(key)
	err = s.do(ctx, func(c redis.Conn) error {
		found, err := redis.Values(s.raise.DoContext(ctx, c, number, beside, from, to, life.Milliseconds(), note, Grace.Milliseconds()))
		if err != nil || len(found) == 0 {
			done = err == nil
			return err
		}
		err = scanRedis(found, &known)
		done = err == nil && known.is(to, note)
		return err
	})
	return known, done, err
}

func (s *redisStore) Look(ctx context.Context, key Key) (known Record, err error) {
	number, beside := redisNames(key)
	err = s.do(ctx, func(c redis.Conn) error {
		found, err := redis.Values(redis.DoContext(c, ctx, "MGET", number, beside))
		if err != nil {
			return err
		}
		return scanRedis(found, &known)
	})
	return known, err
}

const dropScript = `
if redis.call('GET', KEYS[1]) == ARGV[1] then
	redis.call('DEL', KEYS[1], KEYS[2])
end
return {}`

func (s *redisStore) Drop(ctx context.Context, key Key, number uint32) error {
	name, beside := redisNames(key)
	return s.do(ctx, func(c redis.Conn) error {
		_, err := s.drop.DoContext(ctx, c, name, beside, number)
		return err
	})
}

// do calls use with a connection. Where the connection breaks before the answer comes, use is
// called once more, with a new one: it must know what it has written itself (Record.is).
func (s *redisStore) do(ctx context.Context, use func(redis.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, redisDialTimeout+redisTimeout)
	defer cancel()
	c, err := s.pool.GetContext(ctx)
	if err != nil {
		return err
	}
	err = use(c)
	dead := c.Err() != nil // before Close, after which Err is never nil
	c.Close()
	var answer redis.Error
	var timeout net.Error
	if err == nil || !dead || errors.As(err, &answer) || errors.As(err, &timeout) && timeout.Timeout() || ctx.Err() != nil {
		return err
	}
	if c, err = s.pool.DialContext(ctx); err != nil {
		return err
	}
	defer c.Close()
	return use(c)
}

func redisNames(key Key) (number, note string) {
	number = fmt.Sprintf("mcpb:{%x}", key)
	return number, number + ":n"
}

// scanRedis reads a number and its note. Either may be missing.
func scanRedis(found []any, known *Record) error {
	if _, err := redis.Scan(found, &known.Number, &known.Note); err != nil {
		return errors.New("redis: a number that is none; does something else write there?")
	}
	return nil
}

// Check connects. An error that the server answers is final, except that it is still loading.
func (s *redisStore) Check(ctx context.Context) error {
	err := s.do(ctx, func(c redis.Conn) error { return c.Err() })
	var answer redis.Error
	if errors.Is(err, errRedisPolicy) || errors.As(err, &answer) && !strings.HasPrefix(string(answer), "LOADING") {
		return fmt.Errorf("%w: %w", ErrUnsafe, err)
	}
	return err
}
