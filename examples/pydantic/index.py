"""A typed function whose event is a pydantic model. pydantic checks the event and runs the validators.

$ pipe-init run index.handler -C examples/pydantic -e '{"email": " Ada@Example.org ", "age": "36"}'
{"email": "ada@example.org", "age": 36}
"""

from pydantic import BaseModel, Field, field_validator


class User(BaseModel):
    email: str
    age: int = Field(ge=0)

    @field_validator("email")
    @classmethod
    def tidy(cls, email):
        return email.strip().lower()


def handler(user: User, context):
    print("a user of", user.age)
    return user.model_dump()
