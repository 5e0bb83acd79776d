package e2e
import (
_ "github.com/compose-spec/compose-go/v2/loader"
_ "github.com/traefik/yaegi/interp"
_ "github.com/traefik/yaegi/stdlib"
)
