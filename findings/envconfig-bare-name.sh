#!/usr/bin/env bash
# github.com/kelseyhightower/envconfig v1.4.0: a field with a tag such as envconfig:"SESSION_TTL",
# processed with the prefix "bouncer", is BOUNCER_SESSION_TTL; where that is not set, SESSION_TTL
# counts too, whoever's variable it is. With split_words in place of the tag it does not.
source "$(dirname "$0")/lib.sh"
go_module github.com/kelseyhightower/envconfig@v1.4.0
cat >main.go <<'GO'
package main

import (
	"fmt"

	"github.com/kelseyhightower/envconfig"
)

func main() {
	var c struct {
		Tagged string `envconfig:"SESSION_TTL"`
		Split  struct {
			SessionTTL string `split_words:"true"`
		} `ignored:"true"`
	}
	if err := envconfig.Process("bouncer", &c); err != nil {
		panic(err)
	}
	if err := envconfig.Process("bouncer", &c.Split); err != nil {
		panic(err)
	}
	fmt.Printf("tag %q, split_words %q\n", c.Tagged, c.Split.SessionTTL)
}
GO
go build -o program .
seen "both variables are set" 'tag "1h", split_words "1h"' "$(BOUNCER_SESSION_TTL=1h SESSION_TTL=9h ./program)"
seen "only the one without the prefix" 'tag "9h", split_words ""' "$(SESSION_TTL=9h ./program)"
done_with "github.com/kelseyhightower/envconfig v1.4.0"
