"""`python -m lightning_sae.correct` is `lightning-sae correct`."""

from lightning_sae.program import command

main = command("correct")

if __name__ == "__main__":
    main()
