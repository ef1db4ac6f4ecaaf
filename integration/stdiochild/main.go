// Command stdiochild is the stdio server of package stdiotest.
package main

import "github.com/fareboxhq/farebox/internal/stdio/stdiotest"

func main() { stdiotest.Main() }
