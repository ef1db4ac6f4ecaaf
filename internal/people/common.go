package people

import (
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// commonWords are the parts of common passwords: words, names, teams, seasons and
// sequences of keys on the keyboard. A common password is such a word alone, twice, in
// a pair, or with a usual addition; see commonPasswords.
const commonWords = `password passwort passw0rd p@ssword p@ssw0rd pa55word admin administrator root toor login welcome letmein
secret master access system server manager superuser superman batman spiderman starwars pokemon princess
sunshine flower butterfly rainbow unicorn diamond summer winter spring autumn monday friday january february
march april august september october november december football baseball basketball hockey soccer liverpool
chelsea arsenal barcelona juventus iloveyou loveyou lovely babygirl sweetheart forever friends freedom
family mother father computer internet samsung iphone google facebook instagram microsoft windows linux
ubuntu docker kubernetes database postgres mysql oracle changeme default test testing guest user demo
qwerty qwertz azerty asdfgh asdfghjkl zxcvbn zxcvbnm qwertyuiop qazwsx qazwsxedc 1q2w3e4r 1qaz2wsx q1w2e3r4
abc123 abcdef abcdefgh monkey dragon tiger eagle shadow hunter killer ninja mustang corvette ferrari porsche
mercedes yamaha harley cookie chocolate banana orange cheese pepper ginger coffee whatever nothing trustno1
matrix phoenix thunder lightning michael jennifer jessica daniel charlie andrew joshua matthew thomas robert
george jordan nicole ashley amanda melissa michelle anthony william alexander elizabeth veronica london paris
berlin america england germany canada australia farebox console operator owner viewer company office
business customer service support security private public hello goodbye please thankyou gateway wallet credit`

// additions are texts that people put before or after a word to satisfy the rules for
// passwords.
var additions = strings.Fields(`1 12 123 1234 12345 123456 1234567 12345678 123456789 1234567890 0 00 000 007 01 10 11 22 99 111 123123
321 4321 54321 654321 666 777 888 999 69 2000 2010 2015 2018 2019 2020 2021 2022 2023 2024 2025 2026 2027 2028 ! !! !!! 1! 12! 123! 1234! 12345!
@ @1 @12 @123 @1234 # #1 #123 $ ? . * _1 -1 _123 -123 abc qwerty xyz 2020! 2021! 2022! 2023! 2024! 2025! 2026! 2027! @2024 @2025 @2026`)

// commonPasswords returns the set of common passwords with at least MinPassword
// characters, in lower case.
var commonPasswords = sync.OnceValue(func() map[string]struct{} {
	words := strings.Fields(commonWords)
	all := make(map[string]struct{}, 8*len(words)*len(additions)/5)
	add := func(password string) {
		if utf8.RuneCountInString(password) >= MinPassword {
			all[password] = struct{}{}
		}
	}
	for _, word := range words {
		add(word)
		add(word + word)
		for _, addition := range additions {
			add(word + addition)
			add(addition + word)
		}
		for _, first := range []string{"my", "the", "new", "big", "super", "admin", "test", "love", "hello", "welcome", "password"} {
			add(first + word)
			add(word + first)
			add(first + word + "1")
			add(first + word + "123")
		}
	}
	return all
})

// rows are sequences of characters. A password that is a part of such a sequence,
// forwards or backwards, is common.
var rows = []string{
	"01234567890123456789", "abcdefghijklmnopqrstuvwxyz", "qwertyuiopasdfghjklzxcvbnm", "qwertzuiopasdfghjklyxcvbnm",
	"1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p", "1q2w3e4r5t6y7u8i9o0p", "!@#$%^&*()_+", "1234567890qwertyuiop",
}

// unleet maps digits and signs to the letters that they stand for.
var unleet = strings.NewReplacer("0", "o", "1", "i", "3", "e", "4", "a", "5", "s", "7", "t", "@", "a", "$", "s", "!", "i")

// common reports whether a password in lower case is common. A common password stays
// common with digits in place of letters, with additions at both ends, or if it is a
// short text repeated.
func common(lower string) bool {
	all := commonPasswords()
	for _, form := range []string{lower, unleet.Replace(lower)} {
		if _, ok := all[form]; ok || repeats(form) {
			return true
		}
		bare := strings.Trim(form, "0123456789!@#$%&*?.,_- ")
		if slices.Contains(strings.Fields(commonWords), bare) || len(bare) < 4 && len(form) < 16 {
			return true
		}
	}
	for _, row := range rows {
		if strings.Contains(row, lower) || strings.Contains(row, reversed(lower)) {
			return true
		}
	}
	return false
}

// repeats reports whether a text consists of one part of at most four characters,
// repeated. The last repetition may be incomplete.
func repeats(text string) bool {
	for n := 1; n <= 4; n++ {
		if n < len(text) && text[n:] == text[:len(text)-n] {
			return true
		}
	}
	return false
}

func reversed(text string) string {
	r := []rune(text)
	slices.Reverse(r)
	return string(r)
}
